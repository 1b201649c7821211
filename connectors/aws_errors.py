"""Calls AWS and says what an error means: ask again, put it aside, or stop and what to do.

The meanings stand in `connectors.aws_failures`. A torn or foreign answer with status 200 raises
nothing in boto3: `check_answer` finds it by the keys that must be there.
"""

from __future__ import annotations

from typing import Any

from connectors.aws_failures import (
    AGAIN,
    ANYWHERE,
    PERMISSION,
    REQUEST,
    SERVICES,
    TRANSPORT,
    Failure,
)
from schemas.errors import CloudError

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
