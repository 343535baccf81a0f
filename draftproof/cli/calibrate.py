"""`draftproof verifiers calibrate`: from labelled traces to scores, or to error rates, that can be relied on."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftproof.cli.options import Json, Limit, Store, store_url
from draftproof.cli.train_text import need_engine
from draftproof.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from draftproof.cli.progress import Bar
    from draftproof.trace import Trace
    from draftproof.verdict import Verdict
    from draftproof.verifier import Verifier
    from draftproof.verifiers.combining.calibration import Calibrator, Measured
    from draftproof.verifiers.combining.conformal import ConformalThresholds
    from draftproof.verifiers.combining.labelled import Labelled

METHODS = ("platt", "temperature", "isotonic", "table", "conformal")

HELP = """Calibrate a verifier on labelled traces.

Judges the labelled steps of FILE (what the store holds already is not judged again), fits on 70 % of the problems, and
prints Brier score, calibration error and log loss before and after on the other 30 %, with intervals over problems.
Then **draftproof verify --verifier calibrated:file=F** gives calibrated scores.

**--method conformal** finds thresholds instead: of wrong steps at most a share **--alpha** is accepted, of right ones
at most as many rejected. It uses one step a trace, for each generator by itself; use them with
**--verifier conformal:file=F,generator=NAME**.

Too few labels are refused. Do not calibrate on traces that you report on."""


def calibrate(
    verifier: Annotated[str, typer.Argument(metavar="NAME[:key=value,…]", help="A verifier, as verify takes it.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Traces with labels.")],
    output: Annotated[Path, typer.Option("--out", "-o", metavar="F", help="Where the fitted file goes; a new file.")],
    method: Annotated[str, typer.Option("--method", "-m", help=f"One of: {', '.join(METHODS)}.")] = "platt",
    alpha: Annotated[
        float | None, typer.Option("--alpha", help="With conformal: the error rate to hold. [default: 0.05]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws the problems held out, or the step of each trace.")] = 0,
    format: Annotated[
        str, typer.Option("--format", "-f", metavar="NAME[:key=value,…]", help="Input format, or auto.")
    ] = "auto",
    store: Store = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=0, help="Worker processes. [default: one a processor]")
    ] = None,
    limit: Limit = None,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.importers.streams import check_file
    from draftproof.registry import parse_verifier
    from draftproof.verifiers.combining.calibration import Calibrator, fit_calibrator
    from draftproof.verifiers.combining.conformal import fit_conformal
    from draftproof.verifiers.combining.labelled import hold_labels_exist

    if method not in METHODS:
        raise UsageError(f"There is no method {method!r}.", remedy=f"There are: {', '.join(METHODS)}.")
    if alpha is not None and method != "conformal":
        raise UsageError("--alpha is the error rate of --method conformal; calibration bounds none.")
    if alpha is not None and not 0.0 < alpha < 1.0:
        raise UsageError(f"--alpha lies in (0, 1), got {alpha}.")
    if output.exists():
        raise UsageError(f"{output} exists, and verdicts may name it.", remedy="Name a new file.")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {output.absolute().parent}.")
    check_file(file)
    judge = parse_verifier(verifier)
    hold_labels_exist(judge)
    examples, errored = _judged(judge, file, format, limit, store, workers, quiet=json_output)
    fitted: Calibrator | ConformalThresholds
    if method == "conformal":
        fitted = fit_conformal(judge, examples, alpha_accept=0.05 if alpha is None else alpha, seed=seed)
    else:
        fitted = fit_calibrator(judge, examples, method, seed=seed)  # type: ignore[arg-type]
    fitted.save(output)
    if json_output:
        content = {"file": str(output), "digest": fitted.digest, "errored": errored, **fitted.model_dump(mode="json")}
        print(json.dumps(content))
        return
    if isinstance(fitted, Calibrator):
        _show_calibrator(fitted, output, file)
    else:
        _show_thresholds(fitted, output, file)
    if errored:
        print(f"{errored} checks ended in an error and are not in this.")


def _judged(
    verifier: Verifier,
    file: str,
    format: str,
    limit: int | None,
    store: str | None,
    workers: int | None,
    *,
    quiet: bool,
) -> tuple[list[Labelled], int]:
    """The verdicts about what is labelled, and how many checks of it errored. All of them are in the store."""
    from draftproof.batch.run import verify_batch
    from draftproof.batch.stopping import Terminated
    from draftproof.cli.progress import Bar
    from draftproof.cli.screen import say
    from draftproof.settings import settings
    from draftproof.store.queries import VerdictFilter
    from draftproof.store.verdict_store import VerdictStore
    from draftproof.verdict import Outcome
    from draftproof.verifier import identity
    from draftproof.verifiers.combining.labelled import label_verdicts

    command = "draftproof " + shlex.join(sys.argv[1:])
    kept: list[Trace] = []
    with VerdictStore.open(store_url(store)) as opened, Bar([file], limit=limit, quiet=quiet) as bar:
        try:
            result = verify_batch(
                _labelled(verifier, file, format, limit, bar, kept),
                [verifier],
                opened,
                command=command,
                workers=settings().workers if workers is None else workers,
                settings={"format": format, "limit": limit},
                inputs=[{"name": file}],
                observe=bar.show,
            )
        except (KeyboardInterrupt, Terminated) as stopped:
            bar.close()
            say(f"\nStopped; what was judged is stored. To go on: {command}")
            status = ExitStatus.TERMINATED if isinstance(stopped, Terminated) else ExitStatus.INTERRUPTED
            raise typer.Exit(status) from None
        where = VerdictFilter(run=result.run.id, verifier=identity(verifier))
        verdicts: list[Verdict] = [row.verdict for row in opened.iter_verdicts(where)]
    errored = sum(verdict.outcome is Outcome.ERROR for verdict in verdicts)
    return label_verdicts(kept, verdicts), errored


def _labelled(
    verifier: Verifier, file: str, format: str, limit: int | None, bar: Bar, kept: list[Trace]
) -> Iterator[Trace]:
    """The traces of the file that say what is right; an unreadable line raises InputError."""
    from draftproof.importers.reading import read_traces
    from draftproof.verifiers.combining.labelled import truths_of

    for trace in read_traces(file, format, limit=limit, progress=bar.reading(file)):
        if truths_of(trace, verifier.granularity):
            kept.append(trace)
            yield trace


def _show_calibrator(fitted: Calibrator, output: Path, file: str) -> None:
    from rich.table import Table

    from draftproof.cli.screen import out, plain

    screen = out()
    on, apart = fitted.fitted_on, fitted.measured_on
    measured = f"on {apart.right} right and {apart.wrong} wrong subjects of {apart.problems} problems held out"
    screen.print(plain(f"{fitted.verifier.name}, {fitted.calibration.kind}: {measured}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="right" if column else "left")
    for name, told in (("Brier", fitted.brier), ("ECE", fitted.ece), ("log loss", fitted.log_loss)):
        table.add_row(name, _figure(told.before), _figure(told.after), _figure(told.change, sign="+"))
    screen.print(table)
    generators = ", ".join(f"{name or 'not stated'} ({count})" for name, count in sorted(fitted.generators.items()))
    lines = [
        f"Fitted on {on.right} right and {on.wrong} wrong subjects of {on.traces} traces and {on.problems} problems.",
        f"Generators: {generators}",
    ]
    if fitted.log_loss.change.high > 0:
        lines.append("The log loss is not clearly lower than before: the interval of the change holds 0.")
    lines.append(f"Use it: draftproof verify {shlex.quote(file)} --verifier calibrated:file={shlex.quote(str(output))}")
    for line in lines:
        screen.print(plain(line), soft_wrap=True)


def _show_thresholds(fitted: ConformalThresholds, output: Path, file: str) -> None:
    from rich.table import Table

    from draftproof.cli.screen import out, plain

    screen = out()
    title = (
        f"{fitted.verifier.name}: at most {fitted.alpha_accept:g} of wrong subjects accepted, of right ones rejected"
    )
    table = Table(title=plain(title), title_justify="left")
    for column in ("generator", "accept above", "reject below", "traces with a wrong one", "with a right one"):
        table.add_column(column, justify="left" if column == "generator" else "right")
    for name, bounds in sorted(fitted.generators.items()):
        marks = ["never" if mark is None else f"{mark:.4f}" for mark in (bounds.accept_above, bounds.reject_below)]
        table.add_row(plain(name or "not stated"), *marks, str(bounds.wrong), str(bounds.right))
    screen.print(table)
    use = f"draftproof verify {shlex.quote(file)} --verifier conformal:file={shlex.quote(str(output))},generator=…"
    screen.print(plain(f"Use it: {use}"), soft_wrap=True)


def _figure(told: Measured, sign: str = "") -> str:
    return f"{told.value:{sign}.3f} [{told.low:{sign}.3f}, {told.high:{sign}.3f}]"
