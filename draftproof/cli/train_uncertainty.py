"""`draftproof train uncertainty-head`: a small judge of reasoning steps, on what its model knew while writing them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftproof.cli.options import Json
from draftproof.cli.screen import out as screen
from draftproof.cli.screen import plain, say
from draftproof.cli.train_options import Epochs, LearningRate, Out, Quiet, Seed
from draftproof.cli.train_text import CHECKPOINT, STAGES, need_engine
from draftproof.errors import InputError, UsageError

if TYPE_CHECKING:
    from draftproof.cli.train_progress import StageBars
    from draftproof.drafting.language_models.local import LocalLanguageModel
    from draftproof.trace import Trace
    from draftproof.verifiers.uncertainty_head.evaluation import Measured
    from draftproof.verifiers.uncertainty_head.examples import Examples, Split
    from draftproof.verifiers.uncertainty_head.labels import Labelled

HELP = """Train a head that tells wrong steps from right ones by a model's internals.

A model often knows that it is guessing. The head reads its hidden states and probabilities at the tokens of a step and
gives the probability that the step is correct; the model stays as it is. It judges that one model's steps, while they
are written or read again, at next to no cost.

    draftproof train uncertainty-head --model pocket-target --generate 500 --out head/
    draftproof train uncertainty-head --model smollm2-135m --traces labelled.jsonl --out head/
    draftproof verify solutions.jsonl --verifier uncertainty-head:head=head/,model=smollm2-135m

Steps come from labelled traces (`--traces`), or the model writes solutions first (`--generate`): of the problems of
`--traces`, or else of pocket problems, whose steps' truth is known. `--labels` says who knows which steps are right:
the traces themselves, or a verifier of correctness such as `arithmetic`, `lean`, or a language model that is asked
(`judge:model=MODEL`). Steps that it says nothing of, and those behind a trace's first wrong step, are left out and
counted.

At the end you see, on problems that were held out, how well the head finds wrong steps beside what needs no training.
Mind the base rate: guessing has a PR-AUC of just that. Every stage is kept in `--out`; the same command goes on."""


def uncertainty_head(
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="A model's name, a folder, a .gguf file or a hub id.")
    ],
    out: Out,
    traces: Annotated[
        list[str] | None, typer.Option("--traces", metavar="FILE", help="Traces, or problems; may be repeated.")
    ] = None,
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            metavar="traces|VERIFIER",
            help="Who says which steps are right: the traces' own labels, or a verifier as NAME[:key=value,…].",
        ),
    ] = "traces",
    format: Annotated[
        str,
        typer.Option(
            "--format", "-f", metavar="NAME[:key=value,…]", help="Of --traces, such as prm800k:neutral=unknown."
        ),
    ] = "auto",
    generate: Annotated[
        int | None, typer.Option("--generate", metavar="N", min=1, help="Let the model write so many solutions first.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="That they are written at.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest solution, in tokens.")] = 256,
    layers: Annotated[
        list[int] | None,
        typer.Option(
            "--layer", min=0, help="Layer whose states are read; repeatable. [default: two thirds up, and last]"
        ),
    ] = None,
    window: Annotated[
        int,
        typer.Option(
            "--window", min=0, max=64, help="Attention to the last so many tokens, too (5). Slow; reads only."
        ),
    ] = 0,
    top: Annotated[int, typer.Option("--top", min=0, max=64, help="The so many largest probabilities, too (4).")] = 0,
    width: Annotated[int | None, typer.Option("--width", min=8, help="Of the head. [default: by the model's]")] = None,
    epochs: Epochs = 30,
    learning_rate: LearningRate = 1e-3,
    pos_weight: Annotated[float, typer.Option("--pos-weight", help="Weight of a wrong step in training.")] = 3.0,
    p_true: Annotated[
        bool, typer.Option("--p-true/--no-p-true", help="Ask the model about held-out steps, too, for comparison.")
    ] = True,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    need_engine()
    from draftproof.cli.train_progress import StageBars
    from draftproof.drafting.language_models.local import LocalLanguageModel
    from draftproof.verifiers.uncertainty_head.evaluation import measure_all
    from draftproof.verifiers.uncertainty_head.examples import check_enough, collect, split
    from draftproof.verifiers.uncertainty_head.features import FeatureSet, default_layers
    from draftproof.verifiers.uncertainty_head.generated import Writing
    from draftproof.verifiers.uncertainty_head.head import HeadConfig
    from draftproof.verifiers.uncertainty_head.head_files import Base, HeadRecord, save_head
    from draftproof.verifiers.uncertainty_head.labels import label
    from draftproof.verifiers.uncertainty_head.reader import Reader
    from draftproof.verifiers.uncertainty_head.training import HeadTraining, train_head
    from draftproof.verifiers.uncertainty_head.verifier import load_for

    started = time.monotonic()
    if not traces and generate is None:
        raise UsageError("There is nothing to learn from.", remedy="Give --traces FILE, or --generate N.")
    if traces and generate is not None and labels == "traces":
        raise UsageError(
            "Solutions that the model writes to the problems of a file bring no labels of their own.",
            remedy="Name a verifier, such as --labels arithmetic; or leave out --traces, for pocket problems.",
        )
    training = HeadTraining(epochs=epochs, learning_rate=learning_rate, pos_weight=pos_weight, seed=seed)
    writing = Writing(temperature=temperature, max_new_tokens=max_new_tokens, seed=seed)
    source = _source(labels)
    given = list(_read(traces or [], format, out / STAGES))
    wanted = FeatureSet(layers=tuple(layers or ()), top=top, window=window)
    loaded, attention = load_for(model, wanted)
    if layers is None:
        wanted = FeatureSet(layers=default_layers(loaded.model.info), top=top, window=window)
    reader = Reader(loaded, wanted, attention)
    language_model = LocalLanguageModel(loaded)
    with StageBars(quiet) as bars:
        if generate is not None:
            given = _written(language_model, given, generate, writing, out, bars)
        labelled = label(given, source, file=out / STAGES / "labels.jsonl", report=bars.report)
        check_enough(labelled.counts.incorrect, labelled.counts.correct)
        examples = collect(reader, wanted, labelled, out / STAGES / "internals", report=bars.report)
        parts = split(examples)
        features = examples.features[0].shape[1]
        config = HeadConfig.default(features, loaded.model.info.hidden_size)
        if width is not None:
            config = HeadConfig(features, width, heads=max(1, width // 16))
        result = train_head(examples, parts, config, training, checkpoint=out / STAGES / CHECKPOINT, report=bars.report)
        asked = _p_true(language_model, labelled, examples, parts, bars) if p_true else {}
        measured = measure_all(result.head, examples, parts.test, asked)
    record = {
        "labels": labelled.provenance,
        "unread": examples.unread,
        "problems": len(set(examples.problems)),
        "steps": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        "base_rate": measured[0].base_rate,
        "held_out": [asdict(row) for row in measured],
        "silent": [name for name, scores in asked.items() if not any(score is not None for score in scores)],
        "validation_pr_auc": list(result.history),
        "best_epoch": result.best_epoch,
        "settings": asdict(training) | {"format": format, "generate": generate, "temperature": temperature},
        "seed": seed,
        "data_digest": examples.digest,
    }
    warning = _warning(measured)
    base = Base.of(loaded.model.info, reader.writer)
    save_head(out, result.head, HeadRecord(base, wanted, tuple(sorted(reader.blank)), record))
    figures = {
        "folder": str(out),
        "model": loaded.model.info.name,
        "parameters": config.parameters,
        "layers": list(wanted.layers),
        **record,
        "warning": warning,
        "seconds": time.monotonic() - started,
    }
    if json_output:
        print(json.dumps(figures))
        return
    _show(figures, measured)
    if warning:
        say(f"Warning: {warning}")


def _source(labels: str) -> Any:
    from draftproof.registry import parse_verifier

    return None if labels == "traces" else parse_verifier(labels)


def _read(files: Sequence[str], format: str, stages: Path) -> Iterator[Trace]:
    """Traces of all files; what cannot be read goes to a file of its own and is counted."""
    from draftproof.importers.reading import read_traces
    from draftproof.importers.registry import parse_format
    from draftproof.importers.streams import check_file
    from draftproof.rejects import RejectsFile

    parse_format(format)
    for file in files:
        check_file(file)
    if not files:
        return
    stages.mkdir(parents=True, exist_ok=True)
    path = stages / "rejects.jsonl"
    path.unlink(missing_ok=True)
    rejects = RejectsFile(path)
    try:
        for file in files:
            yield from read_traces(file, format, rejects=rejects)
    finally:
        rejects.close()
    if rejects.count:
        say(f"{rejects.count:,} lines could not be read; they are in {path}.")


def _written(
    model: LocalLanguageModel, given: Sequence[Trace], count: int, writing: Any, out: Path, bars: StageBars
) -> list[Trace]:
    """Solutions by the model: of the problems of `given`, or of pocket problems."""
    from draftproof.verifiers.uncertainty_head.generated import Asked, pocket_problems, write_traces

    if given:
        distinct = list(dict.fromkeys(trace.problem for trace in given))
        asked = [Asked(distinct[place % len(distinct)]) for place in range(count)]
    else:
        asked = pocket_problems(count, writing.seed)
    made = write_traces(model, asked, writing, out / STAGES / "traces.jsonl", report=bars.report)
    if not made:
        raise InputError(
            f"In {count:,} solutions, {model.name} finished no step.",
            remedy="Let it write more (--max-new-tokens), or give traces of others (--traces).",
        )
    return made


_AT_ONCE = 16


def _p_true(
    model: LocalLanguageModel, labelled: Labelled, examples: Examples, parts: Split, bars: StageBars
) -> dict[str, list[float | None]]:
    """What the model says when it is asked about the held-out steps."""
    from draftproof.subject import step_subjects
    from draftproof.verifiers.uncertainty_head.p_true import PTrueVerifier

    verifier = PTrueVerifier(model)
    scores: list[float | None] = []
    places = [examples.places[index] for index in parts.test.tolist()]
    for begin in range(0, len(places), _AT_ONCE):
        chosen = places[begin : begin + _AT_ONCE]
        subjects = [list(step_subjects(labelled.traces[trace]))[place] for trace, place in chosen]
        scores += [verdict.score for verdict in verifier.check(subjects)]
        bars.report("asking", len(scores), len(places), "")
    return {"p-true": scores}


def _warning(measured: Sequence[Measured]) -> str | None:
    """What is said of a head that is not worth its training; `measured` begins with the head."""
    head, *others = measured
    best = max(others, key=lambda row: row.pr_auc or 0.0)
    if head.pr_auc is None:
        return "There is no wrong step among those that were held out: nothing is known of the head's worth."
    if best.pr_auc is not None and best.pr_auc >= head.pr_auc:
        return (
            f"On these steps {best.name}, which needs no training, is at least as good as the head. Train it on more "
            "steps, or use that."
        )
    return None


def _show(figures: dict[str, Any], measured: Sequence[Measured]) -> None:
    from rich.table import Table

    from draftproof.cli.train_report import duration

    first, steps = measured[0], figures["labels"]["steps"]
    table = Table(title=f"{first.steps:,} held-out steps, {first.base_rate:.1%} wrong", title_justify="left")
    table.add_column("verifier")
    for name in ("PR-AUC wrong", "95 % interval", "ROC-AUC", "Brier", "ECE"):
        table.add_column(name, justify="right")
    table.add_row("guessing", f"{first.base_rate:.3f}", "", "0.500", "", "")
    for row in measured:
        interval = "" if row.pr_auc_low is None else f"{row.pr_auc_low:.3f} … {row.pr_auc_high:.3f}"
        name = row.name if row.steps == first.steps else f"{row.name} ({row.steps} of {first.steps})"
        table.add_row(name, _three(row.pr_auc), interval, _three(row.roc_auc), _three(row.brier), _three(row.ece))
    shown = screen()
    shown.print(table)
    for name in figures["silent"]:
        shown.print(plain(f"{name} has no answer to any of these steps."))
    left_out = steps["after_error"] + steps["unknown"] + steps["errors"]
    shown.print(
        plain(
            f"Labels from {figures['labels']['source']}: {steps['correct']:,} right and {steps['incorrect']:,} wrong "
            f"steps; {left_out:,} left out ({steps['after_error']:,} behind an error, {steps['unknown']:,} unknown, "
            f"{steps['errors']:,} errors)."
        )
    )
    if figures["unread"]:
        told = ", ".join(f"{count:,} {reason}" for reason, count in figures["unread"].items())
        shown.print(plain(f"Labelled steps without internals: {told}."))
    shown.print(plain(f"head of {figures['parameters']:,} parameters in {figures['folder']}"))
    shown.print(plain(f"took {duration(figures['seconds'])}"))


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
