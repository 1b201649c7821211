"""The same calls by aiobotocore; run by benchmarks/rekognition.py in an environment that has it.

Prints wall and processor time, seconds, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aiobotocore.config import AioConfig  # type: ignore[import-not-found, unused-ignore]
from aiobotocore.session import get_session  # type: ignore[import-not-found, unused-ignore]


async def ask_all(endpoint: str, calls: int, picture: bytes) -> tuple[float, float]:
    """Ask for all pictures at once, over at most 50 connections; return wall and CPU time, s."""
    config = AioConfig(max_pool_connections=50, retries={"total_max_attempts": 1})
    async with get_session().create_client(
        "rekognition",
        region_name="eu-central-1",
        endpoint_url=endpoint,
        config=config,
        aws_access_key_id="local",
        aws_secret_access_key="local",  # noqa: S106 - for a server on this machine
    ) as client:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        answers = await asyncio.gather(
            *(
                client.detect_faces(Image={"Bytes": picture}, Attributes=["ALL"])
                for _ in range(calls)
            )
        )
        assert all(len(answer["FaceDetails"]) == 1 for answer in answers)  # noqa: S101
        return time.perf_counter() - wall_s, time.process_time() - cpu_s


if __name__ == "__main__":
    picture = b"\xff\xd8" + b"\x11" * (int(sys.argv[3]) - 2)
    print(json.dumps(asyncio.run(ask_all(sys.argv[1], int(sys.argv[2]), picture))))
