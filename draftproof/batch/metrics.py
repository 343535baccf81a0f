"""How well rejections agree with step labels: the ProcessBench protocol, and precision and recall of steps.

A trace's prediction is its first rejected step, or "no error" when nothing was rejected. Accuracy on
erroneous traces and on correct ones, and their harmonic mean, are the ProcessBench measures (arXiv
2412.06559): not precision and recall, which count single steps here. Intervals are percentile
bootstraps over problems, since traces of one problem are not independent.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

from draftproof.trace import StepLabel, Trace

RESAMPLES = 1_000
SEED = 20_240_501


@dataclass(frozen=True)
class Counts:
    """What one problem's labelled traces add up to."""

    erroneous: int = 0
    erroneous_found: int = 0
    """Erroneous traces whose first rejected step is the first wrong one."""
    erroneous_near: int = 0
    """... or a neighbour of it."""
    correct: int = 0
    correct_kept: int = 0
    """Correct traces without a rejected step."""
    early: int = 0
    """Erroneous traces with a rejection at or before the first wrong step."""
    early_exact: int = 0
    """... whose first rejection is the first wrong step itself."""
    marked: int = 0
    """Erroneous traces whose first wrong step is rejected, whatever else is."""
    wrong_steps: int = 0
    wrong_rejected: int = 0
    right_rejected: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Measure:
    """A share with its interval. `value` is None when nothing was there to measure."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    hits: int | None = None
    of: int | None = None


def count(trace: Trace, rejected: Iterable[int]) -> Counts | None:
    """One labelled trace's counts, given the positions of its rejected steps; None without labels."""
    if trace.step_labels is None or all(label is StepLabel.UNKNOWN for label in trace.step_labels):
        return None
    found = sorted(rejected)
    labels = trace.step_labels
    first_wrong, first_rejected = trace.first_error, found[0] if found else None
    steps = {
        "wrong_steps": sum(label is StepLabel.INCORRECT for label in labels),
        "wrong_rejected": sum(labels[i] is StepLabel.INCORRECT for i in found),
        "right_rejected": sum(labels[i] is StepLabel.CORRECT for i in found),
    }
    if first_wrong is None:
        if StepLabel.UNKNOWN in labels:
            return Counts(**steps)  # nobody said that the whole trace is right
        return Counts(correct=1, correct_kept=first_rejected is None, **steps)
    exact = first_rejected == first_wrong
    early = first_rejected is not None and first_rejected <= first_wrong
    return Counts(
        erroneous=1,
        erroneous_found=exact,
        erroneous_near=first_rejected is not None and abs(first_rejected - first_wrong) <= 1,
        early=early,
        early_exact=exact,
        marked=first_wrong in found,
        **steps,
    )


def processbench_f1(erroneous: float | None, correct: float | None) -> float | None:
    """Harmonic mean of the two accuracies; 0 when both are 0, None when a class is empty."""
    if erroneous is None or correct is None:
        return None
    return 2 * erroneous * correct / (erroneous + correct) if erroneous + correct else 0.0


def measure(labelled: Iterable[tuple[str, Counts]]) -> list[Measure]:
    """The measures of `(problem, counts)` pairs, with 95 % intervals over problems."""
    by_problem: dict[str, Counts] = defaultdict(Counts)
    for problem, counts in labelled:
        by_problem[problem] += counts
    problems = list(by_problem.values())
    total = sum(problems, Counts())
    samples = _resampled(problems)
    return [_measured(name, total, samples, share) for name, share in _MEASURES.items()]


_Share = Callable[[Counts], tuple[float, float]]
"""Numerator and denominator of a measure."""


def _f1(counts: Counts) -> tuple[float, float]:
    shares = [_ratio(_MEASURES[name](counts)) for name in ("error_accuracy", "correct_accuracy")]
    value = processbench_f1(*shares)
    return (0.0, 0.0) if value is None else (value, 1.0)


_MEASURES: dict[str, _Share] = {
    "error_accuracy": lambda c: (c.erroneous_found, c.erroneous),
    "correct_accuracy": lambda c: (c.correct_kept, c.correct),
    "processbench_f1": _f1,
    "first_error_within_1": lambda c: (c.erroneous_near, c.erroneous),
    "first_error_or_none": lambda c: (c.erroneous_found + c.correct_kept, c.erroneous + c.correct),
    "marked_step_rejected": lambda c: (c.marked, c.erroneous),
    "early_rejection_is_marked": lambda c: (c.early_exact, c.early),
    "correct_trace_rejected": lambda c: (c.correct - c.correct_kept, c.correct),
    "step_precision": lambda c: (c.wrong_rejected, c.wrong_rejected + c.right_rejected),
    "step_recall": lambda c: (c.wrong_rejected, c.wrong_steps),
}

EXPLANATIONS = {
    "error_accuracy": "erroneous traces whose first rejected step is the first wrong one",
    "correct_accuracy": "correct traces with no step rejected",
    "processbench_f1": "harmonic mean of the two accuracies above",
    "first_error_within_1": "erroneous traces whose first rejected step is at most one off",
    "first_error_or_none": "all traces: the first error found exactly, or none where there is none",
    "marked_step_rejected": "erroneous traces whose first wrong step is rejected",
    "early_rejection_is_marked": "rejections at or before the first wrong step that hit it",
    "correct_trace_rejected": "correct traces with a step rejected: false alarms",
    "step_precision": "rejected steps that are labelled incorrect (unlabelled ones left out)",
    "step_recall": "steps labelled incorrect that are rejected",
}


def _measured(name: str, total: Counts, samples: Sequence[Counts], share: _Share) -> Measure:
    hits, of = share(total)
    value = _ratio((hits, of))
    values = sorted(v for sample in samples if (v := _ratio(share(sample))) is not None)
    low = values[int(0.025 * len(values))] if values else None
    high = values[min(len(values) - 1, int(0.975 * len(values)))] if values else None
    counted = name != "processbench_f1"
    return Measure(name, value, low, high, int(hits) if counted else None, int(of) if counted else None)


def _ratio(share: tuple[float, float]) -> float | None:
    return share[0] / share[1] if share[1] else None


def _resampled(problems: Sequence[Counts]) -> list[Counts]:
    """Sums over problems drawn with replacement, the same draws in every process."""
    if len(problems) < 2:
        return []
    draw = random.Random(SEED)  # noqa: S311 - a bootstrap, not a secret
    rows = [tuple(getattr(p, f.name) for f in fields(Counts)) for p in problems]
    return [Counts(*map(sum, zip(*draw.choices(rows, k=len(rows)), strict=True))) for _ in range(RESAMPLES)]
