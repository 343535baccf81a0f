"""One pass of a pipeline over a file of problems: shown while it runs, and ended in order when it is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from draftproof.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from draftproof.batch.pipeline_run import PipelineRun
    from draftproof.batch.solved import Solved
    from draftproof.cli.run_setup import Setup
    from draftproof.rejects import RejectSink
    from draftproof.store.verdict_store import VerdictStore


@dataclass(frozen=True)
class Job:
    """What a command line asks for beside the pipeline."""

    file: str
    limit: int | None
    workers: int
    retry_errors: bool
    command: str
    """The whole command line: what the run is recorded by, and what resumes it."""
    as_json: bool


def solve(
    setup: Setup,
    store: VerdictStore,
    job: Job,
    rejects: RejectSink | None,
    *,
    title: str = "",
    rows: bool = True,
    more: Mapping[str, Any] | None = None,
    on_solved: Callable[[Solved, Mapping[str, Any] | None], None] = lambda solved, output: None,
    keep_outputs: bool = False,
) -> PipelineRun:
    """Every problem of the file, solved and stored; each is printed as it ends, where `rows` are wanted.

    `on_solved` gets each with the last state of its graph, where `keep_outputs` says so and it was solved now. Ends the
    command, with the one to go on by, when it is told to stop.
    """
    from draftproof.batch.pipeline_run import run_pipeline
    from draftproof.batch.problems import Problem, read_problems
    from draftproof.batch.solved import Solved
    from draftproof.batch.stopping import Terminated
    from draftproof.cli.run_summary import conservation_line
    from draftproof.cli.run_view import RunView
    from draftproof.cli.screen import say

    outputs: dict[int, Mapping[str, Any]] = {}

    def observe(problem: Problem, state: Mapping[str, Any] | Solved) -> None:
        if keep_outputs and not isinstance(state, Solved):
            outputs[id(problem)] = state
        view.observe(problem, state)

    run = run_pipeline(
        setup.create,
        read_problems(job.file, limit=job.limit, rejects=rejects),
        store=store,
        workers=job.workers,
        deterministic=setup.deterministic,
        command=job.command,
        settings={**setup.record, "limit": job.limit, "workers": job.workers, **(more or {})},
        inputs=[described(job.file)],
        retry_errors=job.retry_errors,
        observe=observe,
    )
    view = RunView(run.tally, quiet=job.as_json, title=title)
    try:
        with view, closing(iter(run)) as stream:
            for solved in stream:
                on_solved(solved, outputs.pop(id(solved.problem), None))
                if rows and job.as_json:
                    print(json.dumps(solved.as_json(), ensure_ascii=False), flush=True)
                view.show(solved, row=rows and not job.as_json)
    except (KeyboardInterrupt, Terminated) as stopped:
        say(f"\nStopped: {conservation_line(run.tally, 0)} of those read. What was solved is stored.")
        say(f"To go on: {job.command}")
        status = ExitStatus.TERMINATED if isinstance(stopped, Terminated) else ExitStatus.INTERRUPTED
        raise typer.Exit(status) from None
    return run


def described(file: str) -> dict[str, Any]:
    """An input, for the run's record."""
    if file == "-":
        return {"name": "-"}
    stat = Path(file).stat()
    return {"name": file, "bytes": stat.st_size, "modified": stat.st_mtime}


def rejects_path(file: str, named: Path | None) -> Path:
    """Where unreadable lines go: in the working folder, as inputs may lie where nothing can be written.

    A run reads its input from the start, so what an earlier run rejected is replaced.
    """
    path = named or Path(f"{'stdin' if file == '-' else Path(file).name}.rejects.jsonl")
    if file != "-" and path.exists() and path.samefile(file):
        raise UsageError(
            f"The rejects file {path} is also the input, and would be written over.",
            remedy="Name another file with --rejects.",
        )
    try:
        if path.is_file():
            path.unlink()
    except OSError as error:
        raise UsageError(
            f"An earlier rejects file {path} cannot be replaced: {error.strerror}.",
            remedy="Name another with --rejects.",
        ) from error
    return path
