"""`draftproof train router`: who writes the next step, learned from steps that both models wrote."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftproof.cli.options import Json
from draftproof.cli.screen import out as screen
from draftproof.cli.screen import plain, say
from draftproof.cli.train_options import Epochs, LearningRate, Quiet, Seed, writable_folder
from draftproof.cli.train_report import duration
from draftproof.cli.train_text import CHECKPOINT, STAGES, need_engine
from draftproof.errors import UsageError

if TYPE_CHECKING:
    from draftproof.verifiers.routers.report import RouterReport
    from draftproof.verifiers.routers.stored import RouterFile

HELP = """Fit a router: which of the draft model's steps would the target write better?

ROWS are files that the pipeline arbitrage wrote with its policy `collect`: steps as both models wrote them, and what a
verifier gave each. All rows must be of one pair of models and one verifier; the router is good for that pair only.

    draftproof train router rows.jsonl --out router.json

*logistic* (the default) and *boosted* read numbers that come with the draft's step: its log-probabilities, its length,
who wrote the steps before. *text* tunes a small language model (`--checkpoint`) to read the steps themselves; its
`--out` is a folder.

At the end you see how good it is on problems that were held out. Expect little: a rank correlation of 0.15 is what
the published router has, and still worth having."""


def router(
    rows: Annotated[list[Path], typer.Argument(metavar="ROWS...", help="Files of collected rows, JSON lines.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the router is written.")],
    kind: Annotated[str, typer.Option("--kind", metavar="logistic|boosted|text", help="Kind of router.")] = "logistic",
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FOLDER", help="Model that the kind text begins from.")
    ] = None,
    least: Annotated[
        int, typer.Option("--min-rows", min=2, help="Rows of each class that there must be. Fewer are for trying out.")
    ] = 200,
    epochs: Epochs = 3,
    learning_rate: LearningRate = 1e-4,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.cli.train_progress import StageBars
    from draftproof.verifiers.routers.fitting import fit_router
    from draftproof.verifiers.routers.rows import read_rows
    from draftproof.verifiers.routers.text_head import TextTraining

    if kind not in ("logistic", "boosted", "text"):
        raise UsageError(f"--kind is logistic, boosted or text, not {kind!r}.")
    if (kind == "text") != (checkpoint is not None):
        if kind == "text":
            raise UsageError("--kind text needs --checkpoint.", remedy="Name a small causal language model.")
        raise UsageError(f"--checkpoint is for --kind text; the kind is {kind}.")
    if kind == "text" and out.is_file():
        raise UsageError(f"{out} is a file; a router that reads text is a folder.")
    if kind != "text" and out.is_dir():
        raise UsageError(
            f"{out} is a folder; a router of kind {kind} is a file.", remedy=f"Give {out / 'router.json'}."
        )
    writable_folder(out if kind == "text" else out.parent)
    started = time.monotonic()
    with StageBars(quiet) as bars:
        fitted, report = fit_router(
            read_rows(rows),
            out,
            kind=kind,  # type: ignore[arg-type]  # checked above
            minimum=least,
            seed=seed,
            checkpoint=checkpoint,
            training=TextTraining(epochs=epochs, learning_rate=learning_rate, seed=seed),
            state=out / STAGES / CHECKPOINT if kind == "text" else None,
            progress=bars.report,
        )
    seconds = time.monotonic() - started
    if json_output:
        figures: dict[str, Any] = {"kind": kind, "file": str(out), "draft": fitted.pair.draft}
        figures |= {"target": fitted.pair.target, "features": list(fitted.features), "digest": fitted.digest}
        print(json.dumps(figures | report.model_dump(mode="json") | {"seconds": seconds}))
    else:
        _show(fitted, report, out, seconds)
    if not report.says_something:
        say("On held-out problems this router is no better than chance: do not use it, or collect more rows.")


def _show(fitted: RouterFile, report: RouterReport, out: Path, seconds: float) -> None:
    lines = [
        f"{out}: for {fitted.pair}",
        f"fitted to {report.fitted_rows:,} rows, the target better in {report.base_rate:.1%}; "
        f"held out {report.held_out_rows:,} of {report.held_out_problems:,} problems",
        f"rank correlation with the advantage {_number(report.spearman)} "
        f"({_number(report.spearman_low)} … {_number(report.spearman_high)})",
        f"right about {_share(report.accuracy_not_better)} of the steps that the target does not better, "
        f"{_share(report.accuracy_better)} of those that it does, at {report.base_rate:.2f}",
        f"Brier score {report.brier:.4f} ({report.brier_of_base_rate:.4f} knowing nothing), calibration error "
        f"{report.ece:.3f}",
    ]
    if report.too_long:
        lines.append(f"{report.too_long:,} rows were too long to be read")
    if report.features_left_out and fitted.features:
        lines.append(f"not in every row, and left out: {', '.join(report.features_left_out)}")
    lines.append(f"took {duration(seconds)}")
    console = screen()
    for line in lines:
        console.print(plain(line), soft_wrap=True)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.3f}"


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.1%}"
