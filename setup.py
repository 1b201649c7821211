"""The distribution `pho`: what is packaged, what it needs, and the command it brings.

Tools are configured in pyproject.toml; the metadata stands here.
"""

from __future__ import annotations

from setuptools import find_packages, setup

PACKAGES = (
    "schemas",
    "policies",
    "pipelines",
    "connectors",
    "engines",
    "producers",
    "serving",
)
"""Every folder that is importable; a written list, so that no stray folder is ever shipped."""

CORE = (
    "numpy>=2.0",
    "scipy>=1.14",
    "fastavro>=1.12",
    "msgspec>=0.20",
    "river>=0.23",
    "typer>=0.15",
    "rich>=13.9",
)

EXTRAS = {
    # OpenCV 5 drops the 4.x names that the camera and the local analyser use.
    "vision": ["opencv-python-headless>=4.10,<5", "ai-edge-litert>=2.0"],
    # Without crc32c, kafka-python counts its checksums in Python: a quarter of the rate.
    "kafka": ["kafka-python>=3.0.12,<4", "confluent-kafka>=2.16", "crc32c>=2.7"],
    "aws": ["boto3>=1.43"],
    # The gateway and its pages; cryptography makes the certificate of `--tls auto`.
    "gateway": [
        "fastapi>=0.115",
        "uvicorn[standard]>=0.34",
        "prometheus-client>=0.21",
        "cryptography>=44",
    ],
    # Without pyarrow the tables are kept in SQLite and Postgres alone.
    "tables": ["psycopg[binary]>=3.2", "pyarrow>=18"],
    # PyFlink must be the cluster's own version; it holds numpy below 2.2 and River at 0.23.
    "flink": ["apache-flink==2.2.1"],
    "beam": ["apache-beam>=2.60"],
    "dev": [
        "build>=1.2",
        "cfn-lint>=1.20",
        "httpx>=0.27",
        "hypothesis>=6.100",
        # The local servers of AWS: S3, SQS, SNS, DynamoDB and what else a demo meets.
        "moto[cloudformation,dynamodb,s3,server,sns,sqs]>=5.1",
        "mypy>=1.15",
        # Drives the Chromium of the system; it brings no browser of its own here.
        "playwright>=1.50",
        "pytest>=8.3",
        "pytest-timeout>=2.3",
        "PyYAML>=6.0",
        "ruff>=0.9",
        "schemathesis>=4",
        # From 70.1 on setuptools builds wheels by itself.
        "setuptools>=77",
    ],
}

setup(
    name="pho",
    version="0.1.0",
    description="A self-hosted decision loop: sees a visitor, greets, sees the reaction, learns",
    python_requires=">=3.11",
    # Without this an editable install is an import hook, which no type checker can follow.
    package_dir={"": "."},
    packages=find_packages(include=[*PACKAGES, *(f"{name}.*" for name in PACKAGES)]),
    package_data={
        "connectors": ["*.sha256"],
        "engines": ["flink/java/pho/*.java"],
        "schemas": ["avro/*.avsc"],
        "serving": ["*.toml", "gateway/pages/*/*"],
        "serving.gateway": ["pages/*/*"],
    },
    install_requires=list(CORE),
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["pho = serving.cli:main"]},
)
