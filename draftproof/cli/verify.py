"""`draftproof verify`: the main job."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftproof.cli.options import Json, Limit, Store, store_arguments, store_url
from draftproof.errors import ExitStatus, MissingExtraError, UsageError

if TYPE_CHECKING:
    from draftproof.batch.run import BatchResult
    from draftproof.cli.progress import Bar
    from draftproof.rejects import RejectsFile
    from draftproof.trace import Trace
    from draftproof.verifier import Verifier

HELP = """Verify the steps of reasoning traces and store every verdict.

Reads FILEs (`-` for standard input; `.gz` and `.zst` are unpacked), recognises their format, judges each
step by each verifier, and ends with the first wrong steps and their evidence. Running the same command
again resumes: what is in the store is not judged a second time.

    draftproof verify solutions.jsonl
    draftproof verify runs/*.jsonl.gz --verifier arithmetic --store postgresql://me@db/verdicts
    draftproof verify solutions.jsonl --fail-on 'rejected>5%' --json

Exit status: 0 all judged · 3 some steps errored or lines were unreadable · 4 a --fail-on gate was met ·
6 the store cannot be used · 130/143 stopped, run the same command to go on."""


def verify(
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Files of traces, or - for standard input.")],
    verifier: Annotated[
        list[str] | None,
        typer.Option(
            "--verifier",
            "-v",
            metavar="NAME[:key=value,…]",
            help="Verifier to use; may be repeated. See draftproof verifiers list. [default: arithmetic and lean]",
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option("--format", "-f", metavar="NAME[:key=value,…]", help="Input format, or auto. See --list-formats."),
    ] = "auto",
    store: Store = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=0, help="Worker processes. [default: one a processor]")
    ] = None,
    limit: Limit = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="FILE",
            help="Where unreadable lines go; written anew by each run. [default: NAME.rejects.jsonl, in this folder]",
        ),
    ] = None,
    canaries: Annotated[
        str | None,
        typer.Option(
            "--canaries",
            metavar="FILE",
            help="Labelled traces; their first wrong steps are mixed into the run, to see how many are accepted.",
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-on",
            metavar="EXPR",
            help="Exit with 4 when [VERIFIER.]COUNT>NUMBER[%] holds, e.g. 'rejected>0' or 'lean.errored>1%'.",
        ),
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Judge again what ended as an error before.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds that the check of one step may take.")
    ] = 60.0,
    list_formats: Annotated[
        bool,
        typer.Option(
            "--list-formats",
            help="List the input formats and exit.",
            is_eager=True,
            callback=lambda v: _list_formats(v),
        ),
    ] = False,
    json_output: Json = False,
) -> None:
    from draftproof.batch.gate import hold_names, parse_gate
    from draftproof.batch.pool import Limits
    from draftproof.batch.run import verify_batch
    from draftproof.batch.stopping import Terminated
    from draftproof.cli.progress import Bar
    from draftproof.cli.screen import discard, say
    from draftproof.cli.summary import print_json, print_summary
    from draftproof.importers.registry import parse_format
    from draftproof.importers.streams import check_file
    from draftproof.registry import parse_verifier
    from draftproof.settings import settings
    from draftproof.store.verdict_store import VerdictStore

    gates = [parse_gate(text) for text in fail_on or []]
    if not math.isfinite(timeout):
        raise UsageError("--timeout takes a number of seconds.")
    verifiers = [parse_verifier(text) for text in verifier] if verifier else default_verifiers()
    hold_names(gates, verifiers)
    parse_format(format)
    for file in (*files, *([canaries] if canaries else [])):
        check_file(file)
    known_wrong = _canaries(canaries, verifiers) if canaries else []
    sinks = _Sinks(files, rejects)
    resume = "draftproof " + shlex.join(sys.argv[1:])
    with VerdictStore.open(store_url(store)) as opened, Bar(files, limit=limit, quiet=json_output) as bar:
        try:
            result = verify_batch(
                _traces(files, format, limit, sinks, bar),
                verifiers,
                opened,
                command=resume,
                workers=settings().workers if workers is None else workers,
                limits=Limits(subject_seconds=timeout),
                retry_errors=retry_errors,
                settings={"format": format, "limit": limit, "timeout": timeout}
                | ({"canaries": canaries} if canaries else {}),
                inputs=[_input(file) for file in files],
                canaries=known_wrong,
                observe=bar.show,
            )
        except (KeyboardInterrupt, Terminated) as stopped:
            bar.close()
            say(f"\nStopped; what was judged is stored. To go on: {resume}")
            status = ExitStatus.TERMINATED if isinstance(stopped, Terminated) else ExitStatus.INTERRUPTED
            raise typer.Exit(status) from None
        finally:
            sinks.close()
        bar.close()
        show = print_json if json_output else print_summary
        tripped = [line for gate in gates for line in gate.trips(result.conservation)]
        try:
            show(opened, result, sinks.summary(), tripped, store_arguments(store))
            sys.stdout.flush()
        except BrokenPipeError:  # as in `| head`; the exit status is still what the run deserves
            discard(sys.stdout)
    raise typer.Exit(_status(result, sinks, tripped))


def default_verifiers() -> list[Verifier]:
    """Both built-in verifiers; arithmetic alone, with a note, where the Lean kernel is not installed."""
    from draftproof.cli.screen import say
    from draftproof.registry import create_verifier

    verifiers = [create_verifier("arithmetic")]
    try:
        verifiers.append(create_verifier("lean"))
    except MissingExtraError as error:
        say(f"note: without the verifier lean: {error}")
    return verifiers


def _canaries(file: str, verifiers: Sequence[Verifier]) -> list[Trace]:
    """The traces of `file` that hold something that is known to be wrong. A line that cannot be read is an error: what
    a judge is measured by is known, or it is not used."""
    from draftproof.batch.canaries import known_wrong, require_known_wrong
    from draftproof.importers.reading import read_traces

    if file == "-":
        raise UsageError("Canaries come from a file.", remedy="Name one: --canaries labelled.jsonl.")
    traces = list(read_traces(file, "auto"))
    require_known_wrong(traces, verifiers)
    return [
        trace for trace in traces if any(known_wrong(trace, verifier.granularity) is not None for verifier in verifiers)
    ]


def _status(result: BatchResult, sinks: _Sinks, tripped: Sequence[str]) -> ExitStatus:
    if tripped:
        return ExitStatus.GATE_NOT_MET
    if sinks.count or any(total.errored for total in result.conservation):
        return ExitStatus.ITEMS_FAILED
    return ExitStatus.SETTLED


def _traces(files: Sequence[str], format: str, limit: int | None, sinks: _Sinks, bar: Bar) -> Iterator[Trace]:
    from draftproof.importers.reading import read_traces

    given = 0
    for file in files:
        left = None if limit is None else limit - given
        for trace in read_traces(file, format, limit=left, rejects=sinks.of(file), progress=bar.reading(file)):
            given += 1
            yield trace


def _input(file: str) -> dict[str, Any]:
    if file == "-":
        return {"name": "-"}
    stat = Path(file).stat() if Path(file).exists() else None
    return {"name": file, "bytes": stat.st_size if stat else None, "modified": stat.st_mtime if stat else None}


class _Sinks:
    """One rejects file for each input's name, or one for all when the user named it.

    They lie in the working folder, like the store: inputs may be where nothing can be written. A run
    reads its inputs from the start, so what an earlier run of the same command rejected is replaced.
    """

    def __init__(self, files: Sequence[str], named: Path | None) -> None:
        self._named = named
        self._sinks: dict[Path, RejectsFile] = {}
        for path in map(self._path, files):
            if path.exists() and any(file != "-" and path.samefile(file) for file in files):
                raise UsageError(
                    f"The rejects file {path} is also an input, and would be written over.",
                    remedy="Name another file with --rejects.",
                )

    def of(self, file: str) -> RejectsFile:
        from draftproof.rejects import RejectsFile

        path = self._path(file)
        if path not in self._sinks:
            try:
                if path.is_file():
                    path.unlink()
            except OSError as error:
                raise UsageError(
                    f"An earlier rejects file {path} cannot be replaced: {error.strerror}.",
                    remedy="Name another with --rejects.",
                ) from error
            self._sinks[path] = RejectsFile(path)
        return self._sinks[path]

    def _path(self, file: str) -> Path:
        return self._named or Path(f"{'stdin' if file == '-' else Path(file).name}.rejects.jsonl")

    @property
    def count(self) -> int:
        return sum(sink.count for sink in self._sinks.values())

    def summary(self) -> dict[str, int]:
        """Rejects files that something was written to, with their counts."""
        return {str(path): sink.count for path, sink in self._sinks.items() if sink.count}

    def close(self) -> None:
        for sink in self._sinks.values():
            sink.close()


def _list_formats(wanted: bool) -> None:
    if not wanted:
        return
    from draftproof.importers.registry import formats

    for each in formats():
        options = f" (options: {', '.join(each.options)})" if each.options else ""
        print(f"{each.name:18} {each.summary}{options}")
    raise typer.Exit
