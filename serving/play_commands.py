"""Commands that make something happen: demo, run, camera, analyze."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from connectors.clocks import WallClock
from connectors.embedded_log import EmbeddedLog
from engines.embedded import EmbeddedEngine
from engines.job import Job, configure
from engines.services import close_answerer
from pipelines.analyze import Analyser
from schemas.errors import AnalysisError, PictureError, UsageError
from serving.console import (
    AsJson,
    Config,
    Data,
    LogAddress,
    as_flag,
    bar,
    err,
    out,
    print_json,
    require_vision,
)
from serving.crashes import crash_steps
from serving.kinesis_opening import is_on_kinesis
from serving.opening import refuse_kafka
from serving.report import document, read_report, show
from serving.services import (
    make_analyser,
    make_answerer,
    make_flow,
    open_pictures,
)
from serving.settings import Settings, load
from serving.stopping import stop_on_signals
from serving.watch_commands import watching_beside

# What needs OpenCV and the models is imported where it is used: the core installs without them,
# and commands that only look start sooner.

CameraOption = Annotated[
    str | None,
    typer.Option("--camera", help="A FILE or FOLDER to play once instead of recorded visitors."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(demo)
    app.command()(run)
    app.command()(camera)
    app.command()(analyze)


def demo(
    data: Data = None,
    visits: Annotated[int, typer.Option(min=1, help="Recorded visitors.")] = 600,
    seed: Annotated[int, typer.Option(help="Who comes, and how each reacts.")] = 1,
    camera: CameraOption = None,
    engine: Annotated[
        str, typer.Option(help="embedded, or flink: on a Kafka and a Flink started for it.")
    ] = "embedded",
    kiosks: Annotated[
        int, typer.Option(min=1, max=100, help="Kiosks side by side, with --engine flink.")
    ] = 8,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Play the whole loop on recorded visitors, then report.

    An unfinished folder goes on where it stopped; a finished one only reports. On Flink visitors
    take their real time, and the folder must be a new one.

    Example: pho demo --visits 600 --seed 1 --data build/demo
    """
    if engine not in ("embedded", "flink"):
        problem = f"there is no engine {engine!r} to play on"
        raise UsageError(problem, "Use embedded or flink")
    flags = {"data": as_flag(data), "log.address": log, "loops.greeting.control_share": 0.15}
    settings = load(config, flags)
    cure = "Name no --log, and bridge its folder: pho bridge; or play it there: make demo-flink"
    refuse_kafka(settings, "demo", cure)
    if camera is not None and (camera.isdecimal() or "://" in camera):
        problem = f"--camera {camera} has no end"
        raise UsageError(problem, "The demo plays a FILE or FOLDER once; see `pho camera --help`")
    require_vision()
    if engine == "flink":
        if camera is not None:
            problem = "--camera plays on the embedded engine"
            raise UsageError(problem, "Leave out --engine, or --camera")
        _play_on_flink(settings, visits, seed, kiosks, as_json=as_json)
        return
    from serving import demo as demos

    play = demos.Play(str(Path(camera).resolve()) if camera else "recorded", seed, visits)
    the_demo = demos.Demo(settings, play)
    with bar("visitors" if camera is None else "pictures", quiet=as_json) as progress:
        the_demo.run(progress)
    report = read_report(the_demo.log, the_demo.pictures_left)
    if as_json:
        print_json(document(report))
    else:
        show(report, out)


def _play_on_flink(
    settings: Settings, visits: int, seed: int, kiosks: int, *, as_json: bool
) -> None:
    if settings.data.exists() and any(settings.data.iterdir()):
        problem = f"{settings.data} is not empty, and a broker starts from nothing"
        raise UsageError(problem, "Name a new folder with --data")
    settings.data.mkdir(parents=True, exist_ok=True)
    from serving.flink_demo import FlinkPlay, play

    stop = stop_on_signals()
    say: Callable[[str], None] = (
        (lambda _line: None) if as_json else lambda line: err.print(escape(line), highlight=False)
    )
    with bar("visits closed", quiet=as_json) as progress:
        report = play(settings, FlinkPlay(visits, seed, kiosks), stop, say, progress)
    if as_json:
        print_json(document(report))
    else:
        show(report, out)
    if stop.is_set():
        raise KeyboardInterrupt


def run(
    data: Data = None,
    log: LogAddress = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Raise an alarm when what is earned shifts.")
    ] = False,
    config: Config = None,
) -> None:
    """Run the streaming job on this machine until it is stopped.

    Example: pho run --data shop

    Example: pho run --data shop --log kinesis://eu-central-1/shop
    """
    settings = load(config, {"data": as_flag(data), "log.address": log})
    if not is_on_kinesis(settings):
        cure = f"On Kafka Flink runs the job: pho submit --log {log or '...'}"
        refuse_kafka(settings, "run", cure)
    if settings.analysis.analyser == "local":
        require_vision()
    # Before anything is said: whoever reads that the job runs may end it at once.
    stop = stop_on_signals(seconds)
    if is_on_kinesis(settings):
        from serving.kinesis_running import in_its_folder, run_on_kinesis

        # The watcher reads the job's own file, where the alarms it raises are sent on from.
        with watching_beside(in_its_folder(settings), stop) if watch else nullcontext():
            run_on_kinesis(settings, stop, lambda line: err.print(escape(line), highlight=False))
        err.print("stopped; what was in flight is asked again at the next start")
        return
    steps = crash_steps(settings.crash_at)
    file = EmbeddedLog(settings.data, WallClock(), settings.log.synchronous, steps)
    pictures = open_pictures(settings)
    answerer = make_answerer(settings, pictures, file.clock)
    engine = EmbeddedEngine(file, make_flow(settings), answerer)
    changed = configure(file, settings.loops)
    for loop_id in changed:
        err.print(f"loop {loop_id}: configured")
    err.print(f"the job runs on {settings.data}; stop it with Ctrl-C", highlight=False)
    try:
        with watching_beside(settings, stop) if watch else nullcontext():
            Job(engine, pictures, settings.loops).run(stop)
    finally:
        engine.close()
        file.close()
        close_answerer(answerer)
    err.print("stopped; what was in flight is asked again at the next start")


def camera(
    source: Annotated[
        str | None,
        typer.Argument(help="Device number, video, folder, RTSP address, or recorded."),
    ] = None,
    data: Data = None,
    notice: Annotated[
        str | None,
        typer.Option(help="Where visitors read of the camera: page, posted, or none."),
    ] = None,
    kiosk: Annotated[str | None, typer.Option(help="Id of this kiosk.")] = None,
    visits: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many visits of `recorded`.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of `recorded`.")] = 1,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    log: LogAddress = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Send a camera's visitors to the log, and greet them here.

    The job may run in another process, or start later.

    Example: pho camera 0 --notice posted --data shop
    """
    flags = {
        "data": as_flag(data),
        "log.address": log,
        "camera.source": source,
        "kiosk.notice": notice,
        "kiosk.id": kiosk,
    }
    settings = load(config, flags)
    if settings.kiosk.notice == "none":
        err.print("[yellow]no notice is shown, so nobody is analysed[/]; see --notice")
    require_vision()
    from serving.camera import run_camera

    counters = run_camera(
        settings, stop_on_signals(seconds), seed, visits, say=None if as_json else out.print
    )
    told = {name: getattr(counters, name) for name in counters.__slots__}
    if as_json:
        print_json(told)
    else:
        out.print(", ".join(f"{name.replace('_', ' ')} {n}" for name, n in told.items() if n))


def analyze(
    pictures: Annotated[list[Path], typer.Argument(help="JPEG, PNG or WebP files.")],
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Say what the analyser sees in pictures.

    Example: pho analyze visitor.jpg --json
    """
    settings = load(config)
    analyser = make_analyser(settings, WallClock())
    told = [_analyzed(analyser, path) for path in pictures]
    if as_json:
        print_json(told)
    else:
        _show_analyses(told)
    if any(each["status"] == "failed" for each in told):
        raise typer.Exit(1)


def _analyzed(analyser: Analyser, path: Path) -> dict[str, Any]:
    started_s = time.perf_counter()
    faces: tuple[Any, ...] = ()
    error = None
    try:
        seen = analyser.analyse(path.read_bytes())
        faces = seen.faces
        status = "ok" if faces else "no_face"
    except (PictureError, AnalysisError) as refused:
        status, error = "failed", str(refused)
    except OSError as unread:
        status, error = "failed", f"{unread.strerror}. Check the path and its permissions"
    return {
        "picture": str(path),
        "status": status,
        "error": error,
        "faces": [
            {
                "box": msgspec.to_builtins(face.box),
                "confidence": face.confidence,
                "emotions": {score.name: score.confidence for score in face.emotions},
                "smile": face.smile,
                "quality": face.quality,
            }
            for face in faces
        ],
        "milliseconds": round((time.perf_counter() - started_s) * 1_000.0, 1),
    }


def _show_analyses(told: list[dict[str, Any]]) -> None:
    table = Table()
    for name in ("picture", "status", "face", "happy", "strongest", "ms"):
        table.add_column(name)
    for each in told:
        ms = f"{each['milliseconds']:.0f}"
        if not each["faces"]:
            table.add_row(
                escape(each["picture"]), each["status"], escape(each["error"] or ""), "", "", ms
            )
        for face in each["faces"]:
            emotions = face["emotions"]
            strongest = max(emotions, key=emotions.__getitem__, default="")
            happy = f"{emotions.get('happy', 0.0):.2f}"
            sure = f"{face['confidence']:.2f}"
            table.add_row(escape(each["picture"]), each["status"], sure, happy, strongest, ms)
    out.print(table)
