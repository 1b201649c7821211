"""What Amazon Managed Service for Apache Flink runs: one of PHO's two jobs.

The service writes the application's properties to a file; the group `pho` says which job, and what
`engines.flink.settings.JobSettings` takes: a field by its name, a field of a field by a path, such
as ``services.bucket``. Not run on AWS yet: see docs/aws.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

PROPERTIES = Path("/etc/flink/application_properties.json")
GROUP = "pho"


def properties(path: Path = PROPERTIES) -> dict[str, str]:
    """Return the properties of our group."""
    for group in json.loads(path.read_text(encoding="utf-8")):
        if group["PropertyGroupId"] == GROUP:
            return dict(group["PropertyMap"])
    problem = f"{path} has no group {GROUP!r}: set it in the application's properties"
    raise SystemExit(problem)


def nested(told: Mapping[str, str]) -> dict[str, Any]:
    """Return properties whose names are paths as values within values."""
    values: dict[str, Any] = {}
    for path, text in told.items():
        *parents, name = path.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = text
    return values


def main() -> None:
    """Build the job and hand it to the cluster."""
    from connectors.kafka_address import KafkaSecurity
    from engines.flink.main import JOBS, environment, with_initial
    from engines.flink.settings import JobSettings, job_name

    told = properties()
    job = told.pop("job")
    protocol = told.pop("protocol", "")
    settings = msgspec.convert(nested(told), JobSettings, strict=False)
    if protocol:
        security = KafkaSecurity(protocol)
        settings = msgspec.structs.replace(settings, security=security)
    settings = with_initial(settings)
    env = environment(settings)
    # What the zip has no room for is installed on the workers by its name.
    env.set_python_requirements(str(Path(__file__).with_name("requirements.txt")))
    JOBS[job](env, settings)
    env.execute(job_name(job, settings.prefix))


if __name__ == "__main__":
    main()
