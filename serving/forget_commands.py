"""Forgetting: `pho forget`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.markup import escape

from connectors.archive import ArchiveReader
from connectors.archive_erasure import ErasedFrom
from connectors.archive_writer import directives_of, erase_from_archive
from connectors.embedded_log import EmbeddedLog
from connectors.erasure_key import make_key
from connectors.logs import Log
from connectors.persons import AnyOf, Person, find_person
from connectors.pictures import PICTURES, PictureStore
from engines.forgetting import Asked, Forgotten, erased_of, forget_embedded
from engines.forgetting_topics import TopicsLog, forget_on_kafka
from schemas.checks import check_id
from schemas.errors import InvalidRecord, UsageError
from schemas.operations import Erasure
from serving.console import AsJson, Config, Data, LogAddress, as_flag, err, out, print_json
from serving.forgotten import key_path
from serving.kinesis_opening import IN_ITS_FOLDER, refuse_kinesis
from serving.opening import open_log
from serving.services import open_pictures
from serving.settings import Settings, load

_KINDS = ("decision", "visit", "subject")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(forget)


def forget(
    person: Annotated[
        str | None, typer.Argument(metavar="ID", help="Id of a decision or a visit.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="Instead: an application's own id of the person.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="decision, visit or subject.", show_default="decision or visit"),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Take out what came later of everybody forgotten.")
    ] = False,
    archive: Annotated[
        list[Path] | None, typer.Option(help="An archive of this log; may be given several times.")
    ] = None,
    data: Data = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Forget a person: their records, their pictures, and what was learned from them.

    Leaves with 1 when nobody is known by that id. On a folder, stop the job first.

    Example: pho forget visit-1-00003 --data shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    text, wanted = _asked(person, subject, kind, again=again)
    archives = [ArchiveReader(folder) for folder in archive or ()]
    refuse_kinesis(settings, "forget", IN_ITS_FOLDER)
    opened = open_log(settings)
    try:
        asked = Asked(text, wanted, make_key(key_path(settings)))
        asked = replace(asked, elsewhere=_in_archives(archives, asked))
        done, found = _forget(opened, asked, _pictures(settings))
        taken = {
            reader.name: _from_archive(reader.folder, opened, asked, found) for reader in archives
        }
    finally:
        opened.close()
    told: dict[str, Any] = asdict(done)
    told["archives"] = {name: asdict(each) for name, each in taken.items()}
    if as_json:
        print_json(told)
    else:
        _show(done, text)
        _show_archives(taken)
    if not (done.known or done.already or again):
        raise typer.Exit(1)


def _asked(
    person: str | None, subject: str | None, kind: str | None, *, again: bool
) -> tuple[str, Erasure | None]:
    given = [each for each in (person, subject) if each is not None]
    if len(given) + again != 1:
        problem = "it is not clear who is to be forgotten"
        cure = "Give the id of a decision or visit, or --subject ID, or --again alone"
        raise UsageError(problem, cure)
    if kind is not None and kind not in _KINDS:
        problem = f"--kind {kind} is none of ours"
        raise UsageError(problem, f"Use {', '.join(_KINDS)}")
    if subject is not None and kind not in (None, "subject"):
        problem = f"--subject and --kind {kind} contradict each other"
        raise UsageError(problem, "Give one of them")
    if again:
        return "", "unknown"
    if subject is not None or kind == "subject":
        return given[0], "subject"
    try:
        check_id("ID", given[0])
    except InvalidRecord as error:
        raise UsageError(error.problem, error.cure) from error
    return given[0], cast("Erasure | None", kind)


def _pictures(settings: Settings) -> PictureStore | None:
    in_folder = settings.pictures.store == "folder"
    if in_folder and not (settings.data / PICTURES).is_dir():
        return None
    return open_pictures(settings)


def _in_archives(archives: list[ArchiveReader], asked: Asked) -> Person | None:
    found = None
    for reader in archives if asked.text else ():
        person = find_person(reader.scan(), asked.text, asked.kind, asked.key)
        if person is not None:
            found = person if found is None else Person(found.ids | person.ids, person.subjects)
    return found


def _forget(
    log: Log, asked: Asked, pictures: PictureStore | None
) -> tuple[Forgotten, Person | None]:
    if isinstance(log, EmbeddedLog):
        if log.fact("demo.play", "") and not log.fact("demo.finished"):
            problem = f"{log.name} holds a demo that is not finished"
            cure = "Finish it first, with the same `pho demo`: it plays its last visitor once more"
            raise UsageError(problem, cure)
        return forget_embedded(log, asked, pictures)
    return forget_on_kafka(cast("TopicsLog", log), asked, pictures)


def _from_archive(folder: Path, log: Log, asked: Asked, found: Person | None) -> ErasedFrom:
    # By hashes too: who was forgotten while this archive was not at hand goes now.
    erased = erased_of(log, asked.key)
    gone = AnyOf((erased,) if found is None else (found, erased))
    return erase_from_archive(folder, gone, directives_of(log))


def _show(done: Forgotten, text: str) -> None:
    if not done.known:
        what = f"{text} is forgotten already" if done.already else f"nobody is known as {text}"
        err.print(escape(what if text else "nothing came of anybody forgotten"), highlight=False)
        return
    records = sum(done.records.values())
    of = "decision" if done.decisions == 1 else "decisions"
    told = f"forgotten: {records:,} records of {done.decisions:,} {of}"
    if done.pictures:
        told += f", {done.pictures:,} pictures"
    out.print(escape(told), highlight=False)
    for policy in done.policies:
        told = f"{policy.loop_id}/{policy.policy_id} is learned again: epoch {policy.epoch}"
        out.print(f"{escape(told)}, {policy.checksum}", highlight=False, soft_wrap=True)
    if not done.policies:
        out.print("no policy had learned from them", highlight=False)
    if done.open:
        told = f"{done.open:,} windows are still open: when they are closed, pho forget --again"
        out.print(told, highlight=False, soft_wrap=True)


def _show_archives(taken: dict[str, ErasedFrom]) -> None:
    for name, each in taken.items():
        told = f"{name}: {each.rows:,} records out of {each.parts:,} files, {each.bases:,} bases"
        out.print(escape(told), highlight=False, soft_wrap=True)
        if each.tables:
            told = f"{each.tables:,} Parquet files are deleted: pyarrow would make them again"
            err.print(escape(told), highlight=False)
