"""The `draftproof` command: its sub-commands, and how errors become messages and exit statuses.

Nothing here imports a verifier, a database or a model: each command imports what it needs when it
runs, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Annotated, Any

import typer

from draftproof import __version__
from draftproof.cli import corpus, db, doctor, generate, models, runs, train, verdicts, verifiers, verify
from draftproof.cli import run as run_command
from draftproof.errors import DraftproofError, ExitStatus

_CommandLineError: Any = typer.BadParameter.__mro__[2]
"""Base of what typer raises for a wrong command line: click's ClickException, or typer's own copy of it."""

app = typer.Typer(
    name="draftproof",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Verify language-model reasoning step by step, and keep every verdict.

Start with: **draftproof verify FILE**. It reads reasoning traces (JSONL, GSM8K, ProcessBench, PRM800K,
chat logs, …), checks each step by exact arithmetic and by the Lean kernel, stores every verdict in
`draftproof.db`, and shows the first wrong steps with their evidence.

Exit status: 0 settled · 1 bug · 2 usage · 3 items errored or unreadable · 4 gate not met ·
5 integrity · 6 store unreachable · 130/143 stopped, resumable.""",
)

app.command("verify", help=verify.HELP)(verify.verify)
app.command("generate", help=generate.HELP)(generate.generate)
app.command("run", help=run_command.HELP)(run_command.run)
app.add_typer(runs.app, name="runs")
app.add_typer(verdicts.app, name="verdicts")
app.add_typer(verifiers.app, name="verifiers")
app.add_typer(db.app, name="db")
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")
app.add_typer(corpus.app, name="corpus")
app.command("doctor", help=doctor.HELP)(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"draftproof {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Options of the command itself; `_print_version` has acted on the only one before this is called."""


def main() -> None:
    """Entry point of the `draftproof` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit status and never raises."""
    as_json = "--json" in arguments
    try:
        status = app(arguments, standalone_mode=False, prog_name="draftproof")
        sys.stdout.flush()
        return int(status or 0)
    except DraftproofError as error:
        _report(as_json, error.code, " ".join([error.message, *getattr(error, "__notes__", ())]), error.remedy)
        return int(error.exit_status)
    except _CommandLineError as error:
        if as_json:
            _report(as_json, "usage", error.format_message(), None)
        else:
            error.show()
        return int(ExitStatus.USAGE)
    except (typer.Abort, KeyboardInterrupt):
        return int(ExitStatus.INTERRUPTED)
    except BrokenPipeError:
        return _unread()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # how rich leaves when it prints a help text
            return _unread()
        raise
    except Exception as error:
        traceback.print_exc()
        _report(
            as_json, "internal", f"{type(error).__name__}: {error}", "This is a bug in draftproof; please report it."
        )
        return int(ExitStatus.BUG)


def _unread() -> int:
    """The reader of our output has gone, as in `| head`: keep the interpreter from flushing into nothing."""
    from draftproof.cli.screen import discard

    discard(sys.stdout)
    return int(ExitStatus.SETTLED)


def _report(as_json: bool, code: str, message: str, remedy: str | None) -> None:
    """Says what went wrong. Messages may quote what was read: it is shown, never obeyed."""
    from draftproof.cli.screen import say, visible

    if as_json:
        print(json.dumps({"error": {"code": code, "message": message, "remedy": remedy}}))
        return
    say(visible(f"error: {message}"))
    if remedy:
        say(visible(f"       {remedy}"))
