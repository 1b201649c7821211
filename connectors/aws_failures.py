"""What each failure of AWS means for PHO: the tables that `connectors.aws_errors` reads.

One table for each service, of every error that its model names for the operations we call; a test
holds them against botocore's models. What any service may answer without its model saying so stands
in `ANYWHERE`, what happens on the way there in `TRANSPORT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.errors import CloudAction


@dataclass(frozen=True, slots=True)
class Failure:
    """What one error means."""

    action: CloudAction
    """``retry``: the same call may succeed later; ``dead_letter``: this one record or picture
    never will; ``stop``: no call will before somebody changed something."""
    cure: str
    """What to do."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service as PHO uses it."""

    operations: Mapping[str, tuple[str, ...]]
    """Operations called, each with the keys that its answer always has."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """Every error that the service's model names for these operations."""


AGAIN = Failure("retry", "It is asked again; if it lasts, see the service's health dashboard")
SLOWER = Failure("retry", "It is asked again, slower; if it lasts, ask AWS for a larger quota")
WAIT = Failure("retry", "It is asked again; wait until the resource is ready")
PICTURE = Failure("dead_letter", "Send one whole JPEG or PNG picture of at most 5 MiB")
RECORD = Failure("dead_letter", "This one is put aside; the others go on")
PERMISSION = Failure("stop", "Allow the action to PHO's role; deploy/aws names each")
KEY = Failure("stop", "Allow PHO's role to use the KMS key, and see that the key is enabled")
CREDENTIALS = Failure("stop", "Sign in again, or give PHO a role: its credentials are not accepted")
MISSING = Failure("stop", "Make it, or correct its name and region in pho.toml")
REGION = Failure("stop", "Set aws.region to the region where it stands")
REQUEST = Failure("stop", "The request cannot be understood: report it, with this line")
TAKEN = Failure("stop", "Choose another name in pho.toml")
THERE = Failure("stop", "It is there already: nothing to do")
CLOCK = Failure("stop", "Set this machine's clock; AWS refuses requests 5 minutes off")
SETTING = Failure("stop", "Correct the setting that this line names in pho.toml")
QUOTA = Failure("stop", "Ask AWS for a larger quota, or remove what is not used")
CONDITION = Failure("dead_letter", "It is there already: a repeat")
EXPIRED_PLACE = Failure("retry", "A new shard iterator is asked for")

_KMS = {
    "KMSAccessDeniedException": KEY,
    "KMSDisabledException": KEY,
    "KMSInvalidStateException": KEY,
    "KMSNotFoundException": KEY,
    "KMSOptInRequired": KEY,
    "KMSThrottlingException": SLOWER,
}
_KMS_SQS = {
    "KmsAccessDenied": KEY,
    "KmsDisabled": KEY,
    "KmsInvalidKeyUsage": KEY,
    "KmsInvalidState": KEY,
    "KmsNotFound": KEY,
    "KmsOptInRequired": KEY,
    "KmsThrottled": SLOWER,
}

SERVICES: dict[str, Service] = {
    "s3": Service(
        operations={
            "CreateBucket": (),
            "DeleteObject": (),
            "DeleteObjects": (),
            "GetObject": ("Body", "ContentLength"),
            "HeadBucket": (),
            "ListObjectsV2": ("IsTruncated",),
            "PutBucketLifecycleConfiguration": (),
            "PutBucketNotificationConfiguration": (),
            "PutObject": ("ETag",),
            "PutPublicAccessBlock": (),
        },
        failures={
            "BucketAlreadyExists": TAKEN,
            "BucketAlreadyOwnedByYou": THERE,
            "EncryptionTypeMismatch": REQUEST,
            "InvalidObjectState": RECORD,  # somebody moved it to an archive
            "InvalidRequest": REQUEST,
            "InvalidWriteOffset": REQUEST,
            "NoSuchBucket": MISSING,
            "NoSuchKey": RECORD,
            "TooManyParts": REQUEST,
        },
    ),
    "sqs": Service(
        operations={
            "ChangeMessageVisibility": (),
            "CreateQueue": ("QueueUrl",),
            "DeleteMessage": (),
            "GetQueueAttributes": ("Attributes",),
            "ReceiveMessage": (),  # no key at all where no message waits
        },
        failures={
            "InvalidAddress": SETTING,
            "InvalidAttributeName": REQUEST,
            "InvalidAttributeValue": REQUEST,
            "InvalidIdFormat": REQUEST,
            "InvalidSecurity": SETTING,
            **_KMS_SQS,
            "MessageNotInflight": THERE,
            "OverLimit": SLOWER,  # 120,000 messages in flight
            "QueueDeletedRecently": WAIT,
            "QueueDoesNotExist": MISSING,
            "QueueNameExists": TAKEN,
            "ReceiptHandleIsInvalid": THERE,  # it came again meanwhile, with a new handle
            "RequestThrottled": SLOWER,
            "UnsupportedOperation": REQUEST,
        },
    ),
    "rekognition": Service(
        operations={"DetectFaces": ("FaceDetails",), "DetectLabels": ("Labels",)},
        failures={
            "AccessDeniedException": PERMISSION,
            "ImageTooLargeException": PICTURE,
            "InternalServerError": AGAIN,
            "InvalidImageFormatException": PICTURE,
            "InvalidParameterException": REQUEST,
            "InvalidS3ObjectException": RECORD,
            "ProvisionedThroughputExceededException": SLOWER,
            "ThrottlingException": SLOWER,
        },
    ),
    "sagemaker-runtime": Service(
        operations={"InvokeEndpoint": ("Body", "ContentType")},
        failures={
            "InternalDependencyException": AGAIN,
            "InternalFailure": AGAIN,
            "ModelError": AGAIN,
            "ModelNotReadyException": WAIT,
            "ServiceUnavailable": AGAIN,
            "ValidationError": SETTING,  # "Endpoint … of account … not found" comes as this
        },
    ),
    "polly": Service(
        operations={"SynthesizeSpeech": ("AudioStream", "ContentType")},
        failures={
            "EngineNotSupportedException": SETTING,
            "InvalidSampleRateException": REQUEST,
            "InvalidSsmlException": RECORD,
            "LanguageNotSupportedException": SETTING,
            "LexiconNotFoundException": SETTING,
            "MarksNotSupportedForFormatException": REQUEST,
            "ServiceFailureException": AGAIN,
            "SsmlMarksNotSupportedForTextTypeException": REQUEST,
            "TextLengthExceededException": RECORD,
        },
    ),
    "kinesis": Service(
        operations={
            "CreateStream": (),
            "DescribeStreamSummary": ("StreamDescriptionSummary",),
            "GetRecords": ("Records",),
            "GetShardIterator": ("ShardIterator",),
            "ListShards": ("Shards",),
            "PutRecords": ("Records", "FailedRecordCount"),
        },
        failures={
            "AccessDeniedException": PERMISSION,
            "DryRunOperationException": REQUEST,
            "ExpiredIteratorException": EXPIRED_PLACE,
            "ExpiredNextTokenException": EXPIRED_PLACE,
            "InternalFailureException": AGAIN,
            "InvalidArgumentException": REQUEST,
            **_KMS,
            "LimitExceededException": SLOWER,
            "ProvisionedThroughputExceededException": SLOWER,
            "ResourceInUseException": WAIT,
            "ResourceNotFoundException": MISSING,
            "ValidationException": REQUEST,
        },
    ),
    "dynamodb": Service(
        operations={
            "BatchWriteItem": ("UnprocessedItems",),
            "CreateTable": ("TableDescription",),
            "DescribeTable": ("Table",),
            "PutItem": (),
            "Query": ("Items",),
            "Scan": ("Items",),
            "UpdateTimeToLive": ("TimeToLiveSpecification",),
        },
        failures={
            "ConditionalCheckFailedException": CONDITION,
            "InternalServerError": AGAIN,
            "ItemCollectionSizeLimitExceededException": RECORD,
            "LimitExceededException": SLOWER,
            "ProvisionedThroughputExceededException": SLOWER,
            "ReplicatedWriteConflictException": AGAIN,
            "RequestLimitExceeded": SLOWER,
            "ResourceInUseException": WAIT,
            "ResourceNotFoundException": MISSING,
            "ThrottlingException": SLOWER,
            "TransactionConflictException": AGAIN,
        },
    ),
    "sns": Service(
        operations={"GetTopicAttributes": ("Attributes",), "Publish": ("MessageId",)},
        failures={
            "AuthorizationErrorException": PERMISSION,
            "EndpointDisabledException": SETTING,
            "InternalErrorException": AGAIN,
            "InvalidParameterException": SETTING,
            "InvalidParameterValueException": RECORD,
            "InvalidSecurityException": SETTING,
            **_KMS,
            "NotFoundException": MISSING,
            "PlatformApplicationDisabledException": SETTING,
            "ValidationException": REQUEST,
        },
    ),
    "sts": Service(operations={"GetCallerIdentity": ("Account",)}),
}
"""The services PHO speaks to; each table holds what botocore's model holds, and no more."""

ANYWHERE: dict[str, Failure] = {
    "403": PERMISSION,  # HEAD has no body, so its errors are named by their status
    "404": MISSING,
    "301": REGION,
    "400": REGION,
    "AccessDenied": PERMISSION,
    "AccessDeniedException": PERMISSION,
    "AllAccessDisabled": PERMISSION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "PermanentRedirect": REGION,
    "BadDigest": AGAIN,
    "EntityTooLarge": RECORD,
    "ExpiredToken": CREDENTIALS,
    "ExpiredTokenException": CREDENTIALS,
    "IncompleteSignature": CREDENTIALS,
    "InvalidAccessKeyId": CREDENTIALS,
    "InvalidClientTokenId": CREDENTIALS,
    "InvalidSignatureException": CREDENTIALS,
    "InvalidToken": CREDENTIALS,
    "MissingAuthenticationToken": CREDENTIALS,
    "MissingAuthenticationTokenException": CREDENTIALS,
    "NotAuthorized": PERMISSION,
    "OptInRequired": PERMISSION,
    "SignatureDoesNotMatch": CREDENTIALS,
    "UnrecognizedClientException": CREDENTIALS,
    "RequestExpired": CLOCK,
    "RequestTimeTooSkewed": CLOCK,
    "BandwidthLimitExceeded": SLOWER,
    "EC2ThrottledException": SLOWER,
    "PriorRequestNotComplete": SLOWER,
    "ProvisionedThroughputExceededException": SLOWER,
    "RequestLimitExceeded": SLOWER,
    "RequestThrottled": SLOWER,
    "RequestThrottledException": SLOWER,
    "SlowDown": SLOWER,
    "Throttling": SLOWER,
    "ThrottledException": SLOWER,
    "ThrottlingException": SLOWER,
    "TooManyRequestsException": SLOWER,
    "TransactionInProgressException": AGAIN,
    "LimitExceededException": QUOTA,
    "InternalError": AGAIN,
    "InternalFailure": AGAIN,
    "InternalServerError": AGAIN,
    "RequestTimeout": AGAIN,
    "RequestTimeoutException": AGAIN,
    "ServiceUnavailable": AGAIN,
    "ServiceUnavailableException": AGAIN,
    "500": AGAIN,
    "502": AGAIN,
    "503": AGAIN,
    "504": AGAIN,
    "AuthorizationError": PERMISSION,  # SNS says it so
    "AuthorizationErrorException": PERMISSION,
    "EndpointDisabled": SETTING,
    "InternalErrorException": AGAIN,
    "InvalidParameter": SETTING,
    "KMSAccessDenied": KEY,
    "NotFound": MISSING,
    "NotFoundException": MISSING,
    "ValidationError": REQUEST,
    "ValidationException": REQUEST,
}
"""What any service may answer, whether or not its model names it."""

TRANSPORT: dict[str, Failure] = {
    "HTTPClientError": AGAIN,  # and all its kinds: time-outs, resets, proxies
    "ConnectionError": AGAIN,  # nobody listens, or not in time: no kind of the one above
    "SSLError": Failure("stop", "The certificate is not trusted: check the endpoint in [aws]"),
    "InvalidProxiesConfigError": SETTING,
    "ResponseParserError": AGAIN,
    "FlexibleChecksumError": AGAIN,
    "ResponseStreamingError": AGAIN,
    "IncompleteReadError": AGAIN,
    "NoCredentialsError": CREDENTIALS,
    "PartialCredentialsError": CREDENTIALS,
    "CredentialRetrievalError": CREDENTIALS,
    "TokenRetrievalError": CREDENTIALS,
    "SSOError": CREDENTIALS,
    "MetadataRetrievalError": AGAIN,
    "NoRegionError": REGION,
    "InvalidRegionError": REGION,
    "BotoCoreError": REQUEST,
}
"""What happens before an answer: exception classes of botocore; the nearest base class counts."""
