"""deploy/aws/template.yaml: valid, least privilege, and true to the code it runs."""

from __future__ import annotations

import ast
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloudformation import as_list, read_template, statements
from connectors.aws_clients import AwsClients
from connectors.aws_errors import permission
from connectors.aws_failures import SERVICES
from connectors.dynamodb_items import POSITIONS, TTL, definitions
from local_aws_fixture import local_clients
from schemas.streams import STREAMS

# What the services' own lists of actions give no resource for ("*" must be said), and what Managed
# Service for Apache Flink asks for on every interface of a network.
WITHOUT_RESOURCES = {
    "ecr:GetAuthorizationToken",
    "polly:SynthesizeSpeech",
    "rekognition:DetectFaces",
    "rekognition:DetectLabels",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
}


@pytest.fixture(scope="module")
def path(repository: Path) -> Path:
    return repository / "deploy" / "aws" / "template.yaml"


@pytest.fixture(scope="module")
def template(path: Path) -> dict[str, Any]:
    return read_template(path)


def problems(path: Path) -> list[str]:
    """Return what cfn-lint has to say of a template."""
    from cfnlint.api import ManualArgs, lint_file

    found = lint_file(path, config=ManualArgs(regions=["us-east-1", "eu-central-1"]))
    return [f"{match.rule.id} line {match.linenumber}: {match.message}" for match in found]


def test_cfn_lint_has_nothing_to_say(path: Path) -> None:
    assert problems(path) == []


def test_cfn_lint_sees_a_template_that_is_wrong(path: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "template.yaml"
    wrong.write_text(path.read_text().replace("FLINK-2_2", "FLINK-9_9", 1))
    assert any("FLINK-9_9" in problem for problem in problems(wrong))


def test_there_is_a_stream_for_each_of_ours(template: dict[str, Any]) -> None:
    made = {
        resource["Properties"]["Name"]["Fn::Sub"].removeprefix("${Prefix}-")
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Kinesis::Stream"
    }
    # Ticks travel in the event streams, each in every shard.
    assert made == set(STREAMS) - {"ticks"}


def test_each_action_and_resource_is_named(template: dict[str, Any]) -> None:
    for role, statement in statements(template):
        actions = as_list(statement["Action"])
        assert not [action for action in actions if "*" in action], (role, actions)
        if "*" in as_list(statement["Resource"]):
            assert set(actions) <= WITHOUT_RESOURCES, (role, statement["Sid"])


def test_a_role_can_only_be_taken_by_its_own_service(template: dict[str, Any]) -> None:
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            (trust,) = resource["Properties"]["AssumeRolePolicyDocument"]["Statement"]
            assert set(trust["Principal"]) == {"Service"}, name
            assert isinstance(trust["Principal"]["Service"], str), name


OF_THE_PLATFORM = {
    # What ECS, EC2 and Flink ask for by themselves, before any line of PHO runs.
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "logs:CreateLogStream",
    "logs:DescribeLogGroups",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
    "s3:GetObjectVersion",
    *(action for action in WITHOUT_RESOURCES if action.startswith(("ec2:", "ssmmessages:"))),
}
OF_THE_OPERATOR = {
    # What makes or changes a resource: the template does, or whoever calls pho with keys of theirs.
    ("s3", "CreateBucket"),
    ("s3", "PutBucketLifecycleConfiguration"),
    ("s3", "PutBucketNotificationConfiguration"),
    ("s3", "PutPublicAccessBlock"),
    ("sqs", "CreateQueue"),
    ("kinesis", "CreateStream"),
    ("dynamodb", "CreateTable"),
    ("dynamodb", "UpdateTimeToLive"),
    # pho doctor --aws: nobody needs a permission to ask who they are.
    ("sts", "GetCallerIdentity"),
}
BESIDE = {"s3:PutObject": {"s3:PutObjectTagging"}}
"""Actions that a request needs beside its own, with the options that PHO gives it."""


def needed() -> set[str]:
    """Return every IAM action that the connectors' calls need."""
    own = {
        permission(service, operation)
        for service, table in SERVICES.items()
        for operation in table.operations
        if (service, operation) not in OF_THE_OPERATOR
    }
    return own.union(*(BESIDE.get(action, set()) for action in own))


def test_the_roles_allow_what_the_connectors_call_and_no_more(template: dict[str, Any]) -> None:
    allowed = {action for _, each in statements(template) for action in as_list(each["Action"])}
    assert needed() - allowed == set(), "a connector would be refused"
    assert allowed - needed() == OF_THE_PLATFORM, "a role may do what nothing does"


def test_every_call_of_a_connector_stands_in_the_table(repository: Path) -> None:
    """`call` looks operations up there; whoever goes past it must not."""
    methods = {
        xform_name(operation): (service, operation)
        for service in SERVICES
        for operation in Loader().load_service_model(service, "service-2")["operations"]
    }
    past = []
    for path in sorted((repository / "connectors").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in methods and "client" in ast.unparse(node.func.value).lower():
                past.append(f"{path.name}:{node.lineno} calls {node.func.attr}")
    assert past == []


def certificate(clients: AwsClients) -> str:
    """Import a certificate of nobody, which the load balancer asks for; return its ARN."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kiosk.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    answer = clients.client("acm").import_certificate(
        Certificate=made.public_bytes(serialization.Encoding.PEM),
        PrivateKey=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    return str(answer["CertificateArn"])


def deploy(clients: AwsClients, text: str, **more: str) -> list[dict[str, Any]]:
    """Make the stack in an account that is empty; return what was made of it."""
    ec2, formation = clients.client("ec2"), clients.client("cloudformation")
    subnets = ec2.describe_subnets()["Subnets"]
    parameters = {
        "VpcId": subnets[0]["VpcId"],
        "SubnetIds": ",".join(subnet["SubnetId"] for subnet in subnets[:2]),
        "JobSubnetId": subnets[0]["SubnetId"],
        "JobZone": subnets[0]["AvailabilityZone"],
        "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/pho:0.1.0",
        "HostName": "kiosk.example.com",
        "CertificateArn": certificate(clients),
        "AlarmMail": "owner@example.com",
        **more,
    }
    formation.create_stack(
        StackName="pho",
        TemplateBody=text,
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    (stack,) = formation.describe_stacks(StackName="pho")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    found: list[dict[str, Any]] = formation.describe_stack_resources(StackName="pho")[
        "StackResources"
    ]
    return found


@pytest.fixture(scope="module")
def clients() -> Iterator[AwsClients]:
    with local_clients() as (_, made):
        yield made


@pytest.fixture(scope="module")
def deployed(clients: AwsClients, path: Path) -> list[dict[str, Any]]:
    """Return what moto made of the template, on Kafka with Flink: each condition but one."""
    (group, *_) = clients.client("ec2").describe_security_groups()["SecurityGroups"]
    servers = {"KafkaServers": "b-1:9092", "KafkaSecurityGroupId": group["GroupId"]}
    return deploy(clients, path.read_text(), **servers, EndpointName="scores")


# moto makes no such resource out of a template; cfn-lint alone has looked at them.
REFUSED = {
    "AWS::CloudWatch::Alarm",
    "AWS::IAM::RolePolicy",
    "AWS::KinesisAnalyticsV2::Application",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SQS::QueuePolicy",
}


def test_moto_makes_the_stack(deployed: list[dict[str, Any]], template: dict[str, Any]) -> None:
    made = {resource["ResourceType"] for resource in deployed if "LogicalResourceId" in resource}
    wanted = {resource["Type"] for resource in template["Resources"].values()}
    assert wanted - made == REFUSED


def test_pictures_are_encrypted_and_leave_no_versions(
    deployed: list[dict[str, Any]], clients: AwsClients
) -> None:
    assert deployed
    s3 = clients.client("s3")
    (bucket,) = [b["Name"] for b in s3.list_buckets()["Buckets"] if "-pictures-" in b["Name"]]
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    # A version that stays would be a face that stays.
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    sqs = clients.client("sqs")
    url = sqs.get_queue_url(QueueName="pho-uploads")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert "pho-uploads-dead-letters" in attributes["RedrivePolicy"]


def test_what_moto_leaves_out_of_the_bucket_and_the_queue(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    pictures = resources["PicturesBucket"]["Properties"]
    (rule,) = pictures["LifecycleConfiguration"]["Rules"]
    # Without a prefix: uploads live a day at most, too.
    assert (rule["Status"], rule["ExpirationInDays"], "Prefix" in rule) == ("Enabled", 1, False)
    (told,) = pictures["NotificationConfiguration"]["QueueConfigurations"]
    assert told["Queue"] == {"Fn::GetAtt": ["UploadsQueue", "Arn"]}
    assert told["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "uploads/"}]
    (statement,) = resources["UploadsQueuePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert "aws:SourceArn" in statement["Condition"]["ArnEquals"]
    (statement,) = resources["PicturesBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_no_bucket_can_be_opened_to_the_public(template: dict[str, Any]) -> None:
    # moto leaves this part of a template out, so the template itself is looked at.
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::S3::Bucket":
            closed = resource["Properties"]["PublicAccessBlockConfiguration"]
            assert len(closed) == 4, name
            assert all(closed.values()), name


def test_tables_have_the_keys_that_the_connector_writes(
    deployed: list[dict[str, Any]], clients: AwsClients, template: dict[str, Any]
) -> None:
    assert deployed
    dynamodb = clients.client("dynamodb")
    for wanted in definitions("pho"):
        name = wanted["TableName"]
        made = dynamodb.describe_table(TableName=name)["Table"]
        assert made["KeySchema"] == wanted["KeySchema"], name
        indexes = [
            (index["IndexName"], index["KeySchema"])
            for index in made.get("GlobalSecondaryIndexes", [])
        ]
        assert indexes == [
            (index["IndexName"], index["KeySchema"])
            for index in wanted.get("GlobalSecondaryIndexes", [])
        ]
        resources = template["Resources"].values()
        (resource,) = [
            resource["Properties"]
            for resource in resources
            if resource["Properties"].get("TableName")
            == {"Fn::Sub": name.replace("pho-", "${Prefix}-", 1)}
        ]
        # moto leaves this part out of what it makes.
        ttl = {"AttributeName": TTL, "Enabled": True}
        wanted_ttl = None if name == f"pho-{POSITIONS}" else ttl
        assert resource.get("TimeToLiveSpecification") == wanted_ttl
