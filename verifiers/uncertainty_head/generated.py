"""Traces that the model writes itself: a head is best taught on the mistakes that its own model makes.

The model answers each problem once, at a temperature at which it errs now and then (arXiv 2511.06209, section 4,
samples at temperature 1). Finished traces are appended to a file; a run that was killed goes on behind the last.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from draftproof.drafting.pocket.problems import PocketProblem, problem
from draftproof.drafting.pocket.truth import answers, step_labels
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import InputError, UsageError
from draftproof.language_model import Context, Decoding, LanguageModel, Request, StopCause
from draftproof.segment import pieces, segmentation_name
from draftproof.trace import Step, StepLabel, Trace

FORMAT = "draftproof-generated-traces-1"
_STRATEGY = "blank_line"
_BATCH = 32


@dataclass(frozen=True)
class Asked:
    """A problem to solve, and who knows which steps of a solution are right."""

    text: str
    labels: Callable[[Sequence[str]], Sequence[StepLabel]] | None = None
    answer: str | None = None
    correct: Callable[[str], bool] | None = None


@dataclass(frozen=True)
class Writing:
    """How solutions are written."""

    temperature: float = 1.0
    top_p: float = 0.95
    max_new_tokens: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf") or not 0.0 < self.top_p <= 1.0 or self.max_new_tokens < 1:
            raise UsageError("Solutions are written at a temperature of at least 0, top-p in (0, 1], a token or more.")


def pocket_problems(count: int, seed: int) -> list[Asked]:
    """Problems that are made with their plans, which tell each step's truth."""
    source = random.Random(f"uncertainty-head:{seed}")  # noqa: S311 - nothing secret
    return [_of_pocket(problem(source)) for _ in range(count)]


def _of_pocket(made: PocketProblem) -> Asked:
    return Asked(
        text=made.text,
        labels=lambda steps: step_labels(made, steps),
        answer=str(made.answer),
        correct=lambda solution: answers(made, solution),
    )


def write_traces(
    model: LanguageModel, asked: Sequence[Asked], writing: Writing, file: Path, *, report: Report = silent
) -> list[Trace]:
    """A solution of each problem, in order, from `file` as far as it has them."""
    written = _opened(model, asked, writing, file)
    report("generating", len(written), len(asked), "")
    with file.open("a", encoding="utf-8") as out:
        while len(written) < len(asked):
            batch = asked[len(written) : len(written) + _BATCH]
            requests = [_request(each, writing, len(written) + place) for place, each in enumerate(batch)]
            for made in model.generate(requests):
                written.append(_Solution(made.text, made.cause is StopCause.END))
                out.write(json.dumps(asdict(written[-1])) + "\n")
            out.flush()
            report("generating", len(written), len(asked), "")
    traces = [_trace(each, solution, model.identity) for each, solution in zip(asked, written, strict=True)]
    return [trace for trace in traces if trace is not None]


@dataclass(frozen=True)
class _Solution:
    text: str
    ended: bool
    """By the model itself; else its last step may be half a step."""


def _request(asked: Asked, writing: Writing, place: int) -> Request:
    decoding = Decoding(temperature=writing.temperature, top_p=writing.top_p, seed=writing.seed * 1_000_003 + place)
    return Request(Context.of(asked.text), max_new_tokens=writing.max_new_tokens, decoding=decoding)


def _trace(asked: Asked, solution: _Solution, generator: str) -> Trace | None:
    """None for an answer without a whole step."""
    steps = [piece for piece in pieces(solution.text, _STRATEGY) if piece.strip()]
    if not solution.ended:
        del steps[-1:]
    if not steps:
        return None
    labels = None if asked.labels is None else tuple(asked.labels(steps))
    return Trace(
        problem=asked.text,
        steps=tuple(Step(text=step) for step in steps),
        segmentation=segmentation_name(_STRATEGY),
        reference_answer=asked.answer,
        answer_correct=None if asked.correct is None else asked.correct(solution.text),
        step_labels=labels,
        generator=generator,
    )


def _opened(model: LanguageModel, asked: Sequence[Asked], writing: Writing, file: Path) -> list[_Solution]:
    """Texts that the file holds already. What a kill left half written is taken away."""
    plan = [model.identity, [each.text for each in asked], writing.temperature, writing.top_p, writing.max_new_tokens]
    header = {
        "format": FORMAT,
        "plan": hashlib.sha256(json.dumps([*plan, writing.seed]).encode()).hexdigest(),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = file.read_bytes().split(b"\n") if file.is_file() else []
    whole = lines[:-1]
    if not whole:
        file.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return []
    try:
        found, *records = [json.loads(line) for line in whole]
        written = [_Solution(str(record["text"]), bool(record["ended"])) for record in records]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} holds lines that are no generated traces: {error}", remedy="Delete it.") from error
    if found != header:
        raise UsageError(
            f"{file} holds solutions by another model, or of other problems or settings.",
            remedy="Name another output folder, or delete the file.",
        )
    if lines[-1]:
        file.write_bytes(b"\n".join(whole) + b"\n")
    return written[: len(asked)]
