"""Every failure of AWS that can happen stands in a table, and none stands there for nothing."""

from __future__ import annotations

import pickle
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from connectors.aws_errors import (
    _METHODS,
    call,
    check_answer,
    explain,
    judge,
    permission,
)
from connectors.aws_failures import ANYWHERE, SERVICES, TRANSPORT
from schemas.errors import CloudError, ResourceError


@pytest.fixture(scope="module")
def session() -> boto3.Session:
    return boto3.Session("key", "secret", region_name="eu-central-1")


def answered(
    code: str, status: int = 400, message: str = "no", operation: str = "Operation"
) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)


def modelled(session: boto3.Session, service: str) -> set[str]:
    """Return the names of every error of every operation we call."""
    model = session.client(service).meta.service_model
    return {
        shape.name
        for operation in SERVICES[service].operations
        for shape in model.operation_model(operation).error_shapes
    }


@pytest.mark.parametrize("service", SERVICES)
def test_each_table_is_what_the_services_model_says(session: boto3.Session, service: str) -> None:
    wanted = modelled(session, service)
    table = set(SERVICES[service].failures)
    assert wanted - table == set(), "named by the model, not in the table"
    assert table - wanted == set(), "in the table, named by no operation we call"


@pytest.mark.parametrize("service", SERVICES)
def test_each_operation_and_each_key_of_its_answer_exists(
    session: boto3.Session, service: str
) -> None:
    client = session.client(service)
    for operation, keys in SERVICES[service].operations.items():
        shape = client.meta.service_model.operation_model(operation).output_shape
        members = set(shape.members) if shape is not None else set()
        assert set(keys) <= members, operation
        assert client.meta.method_to_api_mapping[_METHODS[operation]] == operation


def transport_kinds() -> list[type[BotoCoreError]]:
    found, waiting = [], [BotoCoreError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        module = botocore.exceptions.__name__
        waiting += [each for each in kind.__subclasses__() if each.__module__ == module]
    return sorted(set(found), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", transport_kinds(), ids=lambda kind: kind.__name__)
def test_every_exception_of_the_transport_has_a_meaning(kind: type[BotoCoreError]) -> None:
    make: Any = kind.__new__  # each wants other words for its text, which is not asked here
    error = make(kind)
    name, failure = judge("s3", error)
    assert name == kind.__name__
    assert failure in TRANSPORT.values()
    if issubclass(kind, HTTPClientError) and name not in TRANSPORT:
        assert failure.action in ("retry", "stop")
        assert failure.action == "retry" or issubclass(kind, botocore.exceptions.SSLError)


def test_every_name_of_the_transport_table_is_a_class_of_botocore() -> None:
    known = {kind.__name__ for kind in transport_kinds()} | {"ResponseParserError"}
    assert set(TRANSPORT) <= known


@pytest.mark.parametrize(
    ("service", "error", "action"),
    [
        ("rekognition", answered("ThrottlingException"), "retry"),
        ("rekognition", answered("ImageTooLargeException"), "dead_letter"),
        ("rekognition", answered("AccessDeniedException"), "stop"),
        ("rekognition", answered("ExpiredTokenException"), "stop"),
        ("rekognition", answered("NeverHeardOf", 503), "retry"),
        ("rekognition", answered("NeverHeardOf", 429), "retry"),
        ("rekognition", answered("NeverHeardOf", 400), "stop"),
        ("s3", answered("SlowDown", 503), "retry"),
        ("s3", answered("404", 404, operation="HeadBucket"), "stop"),
        ("s3", answered("400", 400, operation="GetObject"), "retry"),
        ("kinesis", answered("ExpiredIteratorException"), "retry"),
        ("s3", botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"), "retry"),
        ("s3", botocore.exceptions.SSLError(endpoint_url="http://x", error="bad"), "stop"),
        ("s3", botocore.exceptions.NoCredentialsError(), "stop"),
        ("s3", ValueError("not of botocore at all"), "stop"),
    ],
)
def test_what_an_error_means(service: str, error: Exception, action: str) -> None:
    assert judge(service, error)[1].action == action


def test_a_missing_permission_is_named() -> None:
    told = explain("s3", "DeleteObjects", answered("AccessDenied", 403, "not\nyou"), "my-bucket")
    assert told.action == "stop"
    assert "DeleteObjects of my-bucket: AccessDenied: not you" in told.problem
    assert "s3:DeleteObject " in told.cure
    assert permission("kinesis", "PutRecords") == "kinesis:PutRecords"


@pytest.mark.parametrize("answer", [{}, {"FaceDetails": None}, None, "<html>", ["FaceDetails"]])
def test_a_foreign_answer_is_a_failure_to_be_asked_again(answer: Any) -> None:
    with pytest.raises(CloudError, match="without FaceDetails") as caught:
        check_answer("rekognition", "DetectFaces", answer)
    assert caught.value.action == "retry"


def test_an_empty_list_is_an_answer() -> None:
    assert check_answer("rekognition", "DetectFaces", {"FaceDetails": []}) == {"FaceDetails": []}


def test_a_refused_argument_never_leaves_this_machine(session: boto3.Session) -> None:
    with pytest.raises(CloudError, match="ParamValidationError") as caught:
        call(session.client("rekognition"), "rekognition", "DetectFaces", Image=3)
    assert caught.value.action == "stop"
    assert caught.value.exit_status == ResourceError.exit_status


def test_the_error_crosses_a_process_boundary_whole() -> None:
    error = CloudError("it broke", "Mend it", "retry", "Broke")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes, made a line above
    assert (str(again), again.action, again.code) == (str(error), "retry", "Broke")


def test_what_any_service_may_answer_is_no_repeat_with_another_meaning() -> None:
    for service, table in SERVICES.items():
        for code in set(table.failures) & set(ANYWHERE):
            own, anywhere = table.failures[code], ANYWHERE[code]
            same = own.action == anywhere.action
            assert same or code in ("LimitExceededException", "ValidationError"), (service, code)
