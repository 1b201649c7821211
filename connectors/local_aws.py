"""AWS on this machine, for demonstrations and tests: moto's server in a process of its own.

It speaks the wire protocols of S3, SQS, SNS, DynamoDB, CloudFormation and what else boto3 asks;
the extra `dev` brings it. What it lacks answers HTTP 500 with a page, which is no fault of AWS.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from urllib.request import Request, urlopen

from connectors.local_server import LocalServer, answers, free_ports
from schemas.errors import ResourceError

START_TIME_LIMIT_S = 60.0
"""Half a second is usual; ten on a busy machine."""
REGION = "us-east-1"
"""Where a bucket needs no location, and moto has everything."""
_PROGRAM = (
    "import sys, threading\n"
    "from moto.server import ThreadedMotoServer\n"
    "server = ThreadedMotoServer('127.0.0.1', int(sys.argv[1]), verbose=False)\n"
    "server.start()\n"
    "threading.Event().wait()\n"
)


class LocalAws(LocalServer):
    """A server on loopback that stands for AWS, with nothing in it.

    Parameters
    ----------
    port : int, optional
        Where it listens; None: a free one.

    Raises
    ------
    ResourceError
        moto is not installed.
    """

    def __init__(self, port: int | None = None) -> None:
        if find_spec("moto") is None:
            problem = "moto, which stands for AWS on this machine, is not installed"
            raise ResourceError(problem, "Install the extra: pip install 'pho[aws,dev]'")
        super().__init__()
        self.port = port or free_ports(1)[0]

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises
        ------
        ResourceError
            It does not.
        """
        command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(self.port)]
        address = f"{self.endpoint}/moto-api/data.json"
        if not self._launch(command, lambda: answers(address), START_TIME_LIMIT_S):
            problem = f"the local AWS does not start on port {self.port}"
            raise ResourceError(problem, "Run `python -m moto.server` by hand; it says why")

    def reset(self) -> None:
        """Forget everything in it."""
        request = Request(f"{self.endpoint}/moto-api/reset", method="POST")  # noqa: S310
        with urlopen(request, timeout=30):  # noqa: S310 - loopback
            pass
