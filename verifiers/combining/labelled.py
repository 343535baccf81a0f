"""Verdicts beside the truth: what calibration and thresholds are fitted on and measured with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from draftproof.canonical import digest
from draftproof.errors import UsageError
from draftproof.subject import Granularity
from draftproof.trace import StepLabel, Trace
from draftproof.verdict import Outcome, Proposition, Verdict
from draftproof.verifier import Verifier

UNKNOWN_GENERATOR = ""
"""A trace that does not say which model wrote it."""


@dataclass(frozen=True)
class Labelled:
    """A verdict, and whether its proposition holds."""

    verdict: Verdict
    truth: bool
    problem: str
    generator: str = UNKNOWN_GENERATOR

    @property
    def trace(self) -> str:
        """Digest of the trace: its subjects are right or wrong together."""
        return self.verdict.subject.trace_digest


def hold_labels_exist(verifier: Verifier) -> None:
    """Raises UsageError for a proposition or granularity that labels of traces say nothing about."""
    labelled = (Granularity.STEP, Granularity.TRACE)
    if verifier.proposition is not Proposition.CORRECT or verifier.granularity not in labelled:
        raise UsageError(
            f"Labels of traces say what is correct, and {verifier.name} judges {verifier.proposition.value!r} of a "
            f"{verifier.granularity.value}.",
            remedy="Give labelled verdicts of your own to the Python functions.",
        )


def truths_of(trace: Trace, granularity: Granularity) -> dict[int, bool]:
    """Position -> truth, for what is labelled: steps by their labels, a trace by its answer.

    A step after the first error has the label *unknown* and none here.
    """
    if granularity is Granularity.TRACE:
        return {} if trace.answer_correct is None else {0: trace.answer_correct}
    labels = trace.step_labels or ()
    return {i: label is StepLabel.CORRECT for i, label in enumerate(labels) if label is not StepLabel.UNKNOWN}


def label_verdicts(traces: Iterable[Trace], verdicts: Iterable[Verdict]) -> list[Labelled]:
    """The verdicts about labelled subjects, each once; errors, which say nothing about a subject, are left out.

    Raises UsageError where one subject is labelled right and wrong.
    """
    known: dict[tuple[str, Granularity, int], tuple[bool, Trace]] = {}
    for trace in traces:
        for granularity in (Granularity.STEP, Granularity.TRACE):
            for position, truth in truths_of(trace, granularity).items():
                before, _ = known.setdefault((trace.digest, granularity, position), (truth, trace))
                if before != truth:
                    raise UsageError(
                        f"Trace {trace.id}: {granularity.value} {position} is labelled right once and wrong once.",
                        remedy="Correct the labels.",
                    )
    found: dict[tuple[str, Granularity, int], Labelled] = {}
    for verdict in verdicts:
        key = (verdict.subject.trace_digest, verdict.subject.granularity, verdict.subject.position)
        if verdict.sample or verdict.outcome is Outcome.ERROR or key not in known:
            continue
        truth, trace = known[key]
        found[key] = Labelled(verdict, truth, trace.problem, trace.generator or UNKNOWN_GENERATOR)
    return list(found.values())


Example = TypeVar("Example")


def split_by_problem(
    examples: Sequence[Example], problem: Callable[[Example], Hashable], *, held_out: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Examples to fit on, and examples of *other problems* to measure with.

    The same problems are held out whatever the order of the examples: they are drawn by a digest of
    seed and problem.
    """
    if not 0.0 < held_out < 1.0:
        raise UsageError(f"The share of problems to hold out lies in (0, 1), got {held_out}.")
    drawn = sorted({problem(each) for each in examples}, key=lambda p: digest({"seed": seed, "problem": str(p)}))
    apart = set(drawn[: round(held_out * len(drawn))])
    return [e for e in examples if problem(e) not in apart], [e for e in examples if problem(e) in apart]
