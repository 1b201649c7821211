"""What each failure of AWS means for PHO: ask again, put it aside, or stop and say what to do.

One table for each service, of every error that its model names for the operations we call; a test
holds them against botocore's models. What any service may answer without its model saying so stands
in `ANYWHERE`, what happens on the way there in `TRANSPORT`. A torn or foreign answer with status
200 raises nothing in boto3: `check_answer` finds it by the keys that must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import CloudAction, CloudError


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

_IAM_NAMES = {
    ("s3", "DeleteObjects"): "s3:DeleteObject",
    ("s3", "HeadBucket"): "s3:ListBucket",
    ("s3", "ListObjectsV2"): "s3:ListBucket",
    ("s3", "PutBucketLifecycleConfiguration"): "s3:PutLifecycleConfiguration",
    ("s3", "PutBucketNotificationConfiguration"): "s3:PutBucketNotification",
    ("s3", "PutPublicAccessBlock"): "s3:PutBucketPublicAccessBlock",
    ("sagemaker-runtime", "InvokeEndpoint"): "sagemaker:InvokeEndpoint",
}


def permission(service: str, operation: str) -> str:
    """Return the IAM action that an operation needs, such as ``s3:PutObject``."""
    return _IAM_NAMES.get((service, operation), f"{service}:{operation}")


def judge(service: str, error: Exception) -> tuple[str, Failure]:
    """Say what an exception of a client means.

    Parameters
    ----------
    service : str
        boto3's name of the service.
    error : Exception
        As the client raised it.

    Returns
    -------
    code : str
        Its name: the modelled class, the code the service gave, or botocore's own class.
    failure : Failure
        What to do. A code that no table knows: by its HTTP status, from 500 on ``retry``.
    """
    response = getattr(error, "response", None)
    if not isinstance(response, dict):  # transport errors have None there
        kinds = [kind.__name__ for kind in type(error).__mro__]
        known = next((kind for kind in kinds if kind in TRANSPORT), "")
        return kinds[0], TRANSPORT[known] if known else REQUEST
    table = SERVICES[service].failures if service in SERVICES else {}
    code = str(response.get("Error", {}).get("Code", ""))
    # SQS still sends the codes of its older protocol; the class has the modelled name.
    for name in (type(error).__name__, code):
        if name in table:
            return name, table[name]
    if code.isdecimal() and not str(getattr(error, "operation_name", "")).startswith("Head"):
        return code, AGAIN  # no error of the service: something on the way wrote a page of its own
    if code in ANYWHERE:
        return code, ANYWHERE[code]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code or str(status), AGAIN if status >= 500 or status == 429 else REQUEST


def explain(service: str, operation: str, error: Exception, what: str = "") -> CloudError:
    """Return our error for a client's.

    Parameters
    ----------
    service, operation : str
        What was called.
    error : Exception
        As the client raised it.
    what : str, optional
        The bucket, queue, stream or endpoint.
    """
    code, failure = judge(service, error)
    response = getattr(error, "response", None)
    told = response.get("Error", {}).get("Message", "") if isinstance(response, dict) else error
    where = f" of {what}" if what else ""
    problem = f"AWS {service} {operation}{where}: {code}: {_one_line(told)}"
    cure = failure.cure
    if failure is PERMISSION:
        cure = f"Allow {permission(service, operation)} to PHO's role"
    return CloudError(problem, cure, failure.action, code)


def check_answer(service: str, operation: str, answer: Any, what: str = "") -> Any:
    """Return an answer that has what it must have.

    Raises
    ------
    CloudError
        A key is missing: torn, or of something else than the service; it is asked again.
    """
    wanted = SERVICES[service].operations[operation]
    missing = [key for key in wanted if not isinstance(answer, dict) or answer.get(key) is None]
    if missing:
        where = f" of {what}" if what else ""
        problem = f"AWS {service} {operation}{where}: an answer without {', '.join(missing)}"
        cure = "It is asked again; if it lasts, check the endpoint in [aws]"
        raise CloudError(problem, cure, "retry", "ForeignAnswer")
    return answer


def call(client: Any, service: str, operation: str, what: str = "", **request: Any) -> Any:
    """Call an operation; return its answer, whole.

    Parameters
    ----------
    client : boto3 client
        Of that service.
    service, operation : str
        Which must stand in `SERVICES`.
    what : str, optional
        The bucket, queue or endpoint, for the error.
    **request
        As boto3 takes it.

    Raises
    ------
    CloudError
        With what to do, and whether asking again may help.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    method = getattr(client, _METHODS[operation])
    try:
        answer = method(**request)
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise explain(service, operation, error, what) from error
    return check_answer(service, operation, answer, what)


def read_body(body: Any, service: str, operation: str, most_bytes: int, what: str = "") -> bytes:
    """Read the body of an answer to its end.

    Parameters
    ----------
    body : botocore.response.StreamingBody
        As it came.
    service, operation : str
        What was called.
    most_bytes : int
        More than so many are not read.
    what : str, optional
        The bucket, queue or endpoint, for the error.

    Raises
    ------
    CloudError
        It broke off (asked again), or there is too much of it (this one never will do).
    """
    from botocore.exceptions import BotoCoreError

    try:
        data = bytes(body.read(most_bytes + 1))
    except (BotoCoreError, OSError) as error:
        raise explain(service, operation, error, what) from error
    finally:
        # Not all was read where there is too much: that connection is of no more use.
        body.close()
    if len(data) > most_bytes:
        problem = f"AWS {service} {operation}: an answer of more than {most_bytes:,} bytes"
        raise CloudError(problem, "This one is put aside", "dead_letter", "TooLarge")
    return data


def _method(operation: str) -> str:
    """Return boto3's name of an operation: ``ListObjectsV2`` is ``list_objects_v2``."""
    name = operation.replace("V2", "_v2")
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


_METHODS = {name: _method(name) for service in SERVICES.values() for name in service.operations}


def _one_line(told: Any) -> str:
    return " ".join(str(told).split())[:300]
