"""A cluster's REST interface: what its jobs do, where they went wrong, their savepoints."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

import msgspec

from schemas.errors import ResourceError

_TIME_LIMIT_S = 10.0


class FlinkRest:
    """Asks one cluster.

    Parameters
    ----------
    address : str
        ``http://host:8081``.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def taskmanagers(self) -> int:
        """Return how many TaskManagers are registered."""
        return int(self._get("/overview")["taskmanagers"])

    def slots(self) -> int:
        """Return how many slots are free."""
        return int(self._get("/overview")["slots-available"])

    def state(self, job_id: str) -> str:
        """Return the state of a job: ``RUNNING``, ``FAILED``, ``FINISHED`` and so on."""
        return str(self._get(f"/jobs/{job_id}")["state"])

    def job(self, job_id: str) -> Any:
        """Return everything the cluster tells of a job."""
        return self._get(f"/jobs/{job_id}")

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Return name and state of every job, by its id."""
        found = self._get("/jobs/overview")["jobs"]
        return {job["jid"]: (job["name"], job["state"]) for job in found}

    def all_running(self, job_id: str) -> bool:
        """Return whether every task of a job runs."""
        job = self.job(job_id)
        states = [vertex["status"] for vertex in job["vertices"]]
        return job["state"] == "RUNNING" and all(state == "RUNNING" for state in states)

    def error(self, job_id: str) -> str:
        """Return the root of a job's last failure; empty: it had none."""
        entries = self._get(f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        if not entries:
            return ""
        text = str(entries[0].get("stacktrace", ""))
        return text[text.rfind("Caused by:") + 1 and text.rfind("Caused by:") :]

    def checkpoints(self, job_id: str) -> Any:
        """Return what the cluster tells of a job's checkpoints."""
        return self._get(f"/jobs/{job_id}/checkpoints")

    def stop_with_savepoint(self, job_id: str, folder: str | None, wait_s: float = 120.0) -> str:
        """Stop a job; return where its savepoint is.

        Raises
        ------
        ResourceError
            When the savepoint failed; the job then goes on.
        """
        body: dict[str, Any] = {"drain": False, "formatType": "CANONICAL"}
        if folder is not None:
            body["targetDirectory"] = folder
        trigger = self._post(f"/jobs/{job_id}/stop", body)["request-id"]
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s:
            told = self._get(f"/jobs/{job_id}/savepoints/{trigger}")
            if told["status"]["id"] == "COMPLETED":
                operation = told["operation"]
                if "location" in operation:
                    return str(operation["location"])
                problem = f"no savepoint of job {job_id}: {operation['failure-cause']['class']}"
                raise ResourceError(problem, f"See {self.address}/#/job/{job_id}; it runs on")
            time.sleep(0.2)
        problem = f"the savepoint of job {job_id} took more than {wait_s:.0f} s"
        raise ResourceError(problem, f"See {self.address}/#/job/{job_id}")

    def cancel(self, job_id: str) -> None:
        """End a job without a savepoint; its last checkpoint stays."""
        self._ask("PATCH", f"/jobs/{job_id}?mode=cancel", None)

    def _get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def _post(self, path: str, body: Any) -> Any:
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Any) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        request = urllib.request.Request(  # noqa: S310 - the operator names the cluster
            self.address + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIME_LIMIT_S) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            told = error.read().decode("utf-8", "replace")[:300]
            problem = f"Flink at {self.address} refused {method} {path}: {error.code} {told}"
            raise ResourceError(problem, f"See {self.address}") from error
        except (urllib.error.URLError, OSError, ValueError) as error:
            problem = f"no Flink answers at {self.address}: {error}"
            cure = "Name the JobManager's REST address with --flink, or start the cluster"
            raise ResourceError(problem, cure) from error
        return msgspec.json.decode(text) if text else {}
