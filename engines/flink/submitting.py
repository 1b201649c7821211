"""Hand the jobs to a cluster: the wheel, the jars, where to go on from, and what went wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from engines.flink.local_cluster import flink_home, flink_script
from engines.flink.rest import FlinkRest
from engines.flink.settings import JobSettings, checkpoint_folder, job_name, write_settings
from schemas.errors import ResourceError, UsageError

PACKAGES = ("schemas", "policies", "pipelines", "connectors", "engines")
"""What a worker imports; what stands to their right runs on no cluster."""
_SUBMIT_TIME_LIMIT_S = 180.0
# Twenty seconds are usual; a worker's Python that starts on a busy machine took 90.
_STARTED_WITHIN_S = 240.0
_JOB_ID = re.compile(r"JobID ([0-9a-f]{32})")
_EPOCH = (1980, 1, 1, 0, 0, 0)

_CURES = (
    (
        "zipimport|zipimporter",
        "A TaskManager runs one Python for all jobs, with the packages of the first: restart the "
        "TaskManagers before a new release, or use application mode",
    ),
    (
        "find_libpython|pemja|No module named 'pyflink'",
        "Put an environment with apache-flink 2.2.1 first on the PATH of the TaskManagers, and "
        "name its Python with --python",
    ),
    (
        "No module named '(schemas|policies|pipelines|connectors|engines)",
        "The wheel did not reach the workers: submit with `pho submit`, which ships it",
    ),
    (
        "No module named",
        "Install PHO's own needs where the TaskManagers run: pip install 'pho[flink,vision,kafka]'",
    ),
    (
        "Python version|different from",
        "Driver and TaskManagers need the same Python 3.11: name it with --python",
    ),
    (
        "ClassNotFoundException|NoClassDefFoundError",
        "A jar is missing on the cluster: `pho submit` ships the Kafka connector and our own",
    ),
    (
        "UnknownTopicOrPartition|does not host this topic",
        "Make the topics: pho topics create",
    ),
    ("TimeoutException|Connection to node", "Start the broker, or mend the address in --log"),
    (
        "NoResourceAvailableException|NotEnoughResources|slot request",
        "Start more TaskManagers, or give fewer instances with --parallelism",
    ),
    ("Max parallelism|maxParallelism", "A savepoint goes to at most 128 parallel instances"),
)


@dataclass(frozen=True, slots=True)
class Submission:
    """One job on its way to a cluster."""

    job: str
    """``analyze`` or ``loop``."""
    settings: JobSettings
    """What it is told."""
    jobmanager: str
    """REST address of the cluster, ``host:port``."""
    jars: tuple[Path, ...] = ()
    """Jars to ship; none where the cluster has them."""
    python: str = sys.executable
    """Python of driver and workers; the same path on each machine."""
    savepoint: str | None = None
    """Savepoint or checkpoint to go on from."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """What Flink's script finds in its environment beside ours."""


def submit(submission: Submission, folder: Path) -> str:
    """Submit one job and wait until it runs; return its id.

    Parameters
    ----------
    submission : Submission
        What, where, from where.
    folder : Path
        Keeps the wheel and what the job is told.

    Raises
    ------
    ResourceError
        The cluster does not take it or it does not start; the message names the cure.
    """
    rest = FlinkRest(f"http://{submission.jobmanager}")
    rest.taskmanagers()  # says where Flink is missed, before eleven seconds of its client
    folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(folder)
    told = folder / f"{submission.job}.json"
    write_settings(submission.settings, told)
    command = ["run", "--detached", "--jobmanager", submission.jobmanager]
    if submission.savepoint is not None:
        command += ["--fromSavepoint", submission.savepoint]
    if submission.jars:
        command += [f"-Dpipeline.jars={';'.join(jar.as_uri() for jar in submission.jars)}"]
    command += ["-pyexec", submission.python, "-pyclientexec", submission.python]
    command += ["-pyfs", str(wheel), "-pym", "engines.flink.main"]
    command += [submission.job, "--settings", str(told)]
    variables = {"FLINK_HOME": str(flink_home()), **submission.variables}
    try:
        done = subprocess.run(  # noqa: S603 - Flink's own script
            flink_script("flink", variables, *command),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SUBMIT_TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        problem = f"Flink's client took more than {_SUBMIT_TIME_LIMIT_S:.0f} s"
        raise ResourceError(problem, f"See {rest.address}") from error
    match = _JOB_ID.search(done.stdout)
    if match is None:
        raise _explained(submission.job, done.stderr + done.stdout)
    _wait_until_it_runs(rest, submission.job, match[1])
    return match[1]


def build_wheel(folder: Path) -> Path:
    """Pack the packages a worker imports, from wherever they are imported here."""
    try:
        number = version("pho")
    except PackageNotFoundError:
        number = "0"
    wheel = folder / f"pho-{number}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in PACKAGES:
            spec = find_spec(name)
            if spec is None or spec.origin is None:
                problem = f"the package {name} is not installed here"
                raise ResourceError(problem, "Install PHO again: pip install 'pho[flink]'")
            root = Path(spec.origin).parent
            for path in sorted(root.rglob("*")):
                if path.is_file() and path.suffix not in (".pyc", ".pyo"):
                    entry = zipfile.ZipInfo(f"{name}/{path.relative_to(root)}", _EPOCH)
                    archive.writestr(entry, path.read_bytes())
    return wheel


def newest_checkpoint(checkpoints: str, job: str, prefix: str) -> str | None:
    """Return the newest retained checkpoint of a job; None: there is none.

    Raises
    ------
    UsageError
        Where the folder is not on this machine, so that nobody can look.
    """
    base = urlparse(checkpoint_folder(checkpoints, job, prefix))
    if base.scheme not in ("", "file"):
        problem = f"checkpoints in {checkpoints} cannot be listed from here"
        cure = "Name one with --from-savepoint, or let Flink's high availability restart the job"
        raise UsageError(problem, cure)
    folder = Path(url2pathname(base.path))
    found = [path for path in folder.glob("*/chk-*/_metadata") if path.stat().st_size]
    newest = max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
    return None if newest is None else newest.parent.as_uri()


def running(rest: FlinkRest, job: str, prefix: str) -> str | None:
    """Return the id of a job that is on the cluster and not over; None: it is not there."""
    over = ("FINISHED", "CANCELED", "FAILED")
    for job_id, (name, state) in rest.jobs().items():
        if name == job_name(job, prefix) and state not in over:
            return job_id
    return None


def _wait_until_it_runs(rest: FlinkRest, job: str, job_id: str) -> None:
    until_s = time.monotonic() + _STARTED_WITHIN_S
    while time.monotonic() < until_s:
        if rest.all_running(job_id):
            return
        if rest.state(job_id) in ("FAILED", "FAILING", "RESTARTING") and (
            error := rest.error(job_id)
        ):
            raise _explained(job, error)
        time.sleep(0.3)
    problem = f"the job {job} does not run after {_STARTED_WITHIN_S:.0f} s"
    cure = f"It waits for {rest.slots()} free slots to become enough; see {rest.address}"
    raise ResourceError(problem, cure)


def _explained(job: str, text: str) -> ResourceError:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if re.match(r"Caused by:|\w*(Error|Exception)\b", line)]
    problem = f"the job {job} does not start: {(causes or lines or ['no word of why'])[-1][:300]}"
    for pattern, cure in _CURES:
        if re.search(pattern, text):
            return ResourceError(problem, cure)
    return ResourceError(problem, "Read the TaskManagers' logs; `--debug` shows all of it")
