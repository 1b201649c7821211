"""The command `pho`."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer
from rich.markup import escape

from schemas.errors import PhoError
from serving import (
    aws_commands,
    evaluate_commands,
    export_commands,
    forget_commands,
    history_commands,
    kafka_commands,
    keys_commands,
    look_commands,
    play_commands,
    policy_commands,
    replay_commands,
    simulate_commands,
    submit_commands,
    tables_commands,
    topic_commands,
    up_commands,
    uploads_commands,
    watch_commands,
)
from serving.console import err

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="pho",
    help="PHO, the open decision loop: see a person, choose, see how they take it, learn.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
up_commands.register(app)
play_commands.register(app)
aws_commands.register(app)
look_commands.register(app)
replay_commands.register(app)
evaluate_commands.register(app)
export_commands.register(app)
policy_commands.register(app)
watch_commands.register(app)
topic_commands.register(app)
kafka_commands.register(app)
submit_commands.register(app)
history_commands.register(app)
forget_commands.register(app)
tables_commands.register(app)
uploads_commands.register(app)
keys_commands.register(app)
simulate_commands.register(app)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Take the options that stand before any command; `main` reads --debug itself."""


def main() -> None:
    """Run the command line; leave with 0 done, 1 check failed, 2 wrong usage, 3 missing or down."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    # Wherever it stands: who adds it does so at the end of the line that just failed.
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        # Leaves by SystemExit: 0, or 2 with the usage where the line cannot be understood.
        app(arguments, prog_name="pho")
    except PhoError as error:
        _explain(error.problem, error.cure, debug=debug)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has seen enough.
        sys.stderr.close()
        sys.exit(EXIT_FAILED)


def _explain(problem: str, cure: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    err.print(f"[bold red]error:[/] {escape(problem)}", highlight=False, soft_wrap=True)
    if cure:
        err.print(f"[bold]do:[/] {escape(cure)}", highlight=False, soft_wrap=True)
