"""Choosing a cascade's order and thresholds on a calibration split, and telling what it costs.

All of this works on scores that were collected once, every stage asked about every subject: what a
setting of the thresholds would have done is then arithmetic. What was chosen on a split is measured
on another one: on its own split it looks better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftproof.errors import UsageError
from draftproof.metrics.arrays import Booleans, Truths, booleans
from draftproof.verifiers.combining.cascade import Thresholds

Floats = NDArray[np.float64]
NEVER = Thresholds(None, None)
"""A stage that hands everything on."""


@dataclass(frozen=True)
class Replayed:
    """What a setting of the thresholds would have done on a split."""

    expected_cost: float
    """Σ cost of a stage · share of subjects that reach it, in the unit of the costs."""
    error: float
    """Share of all subjects that are decided wrongly."""
    coverage: float
    """Share decided."""
    reached: tuple[float, ...]
    """Share of subjects that each stage is asked about."""
    settled: tuple[float, ...]
    """Share of all subjects that each stage settles."""


def order_of(costs: Sequence[float], settled_alone: Sequence[float]) -> list[int]:
    """Indices of stages by cost ÷ share of subjects that each settles by itself; those that settle none come last."""
    if len(costs) != len(settled_alone):
        raise UsageError(f"Every stage has a cost and a share, got {len(costs)} and {len(settled_alone)}.")
    _hold_costs(costs, len(costs))
    if not all(0.0 <= share <= 1.0 for share in settled_alone):
        raise UsageError("The shares that stages settle lie in [0, 1].")
    price = [cost / share if share else float("inf") for cost, share in zip(costs, settled_alone, strict=True)]
    return sorted(range(len(costs)), key=lambda index: (price[index], costs[index], index))


def replay(
    scores: Sequence[Sequence[float | None]] | NDArray[Any],
    truths: Truths,
    costs: Sequence[float],
    thresholds: Sequence[Thresholds],
) -> Replayed:
    """What the cascade does with subjects whose scores are known.

    Args:
        scores: [N][S], of each subject at each stage; None where the stage abstained.
        truths: [N].
        costs: [S], of asking a stage about one subject, in any one unit.
        thresholds: [S].
    """
    table, held = _table(scores, truths, costs)
    if len(thresholds) != len(costs):
        raise UsageError(f"{len(costs)} stages need as many thresholds, got {len(thresholds)}.")
    return _replay(table, held, np.asarray(costs, dtype=np.float64), thresholds)


def choose_thresholds(
    scores: Sequence[Sequence[float | None]] | NDArray[Any],
    truths: Truths,
    costs: Sequence[float],
    last: Thresholds,
    *,
    max_error: float,
    grid: int = 12,
) -> tuple[tuple[Thresholds, ...], Replayed]:
    """The thresholds of least expected cost whose error on this split is at most `max_error`.

    The last stage's own thresholds are given: what it cannot decide, nobody decides. For every other
    stage, pairs of `grid` quantiles of its scores are tried, and never settling; one stage after the
    other, until none can be improved. With two stages that is every pair; with more, a local optimum.

    Raises UsageError where the last stage alone errs more often than `max_error`.
    """
    table, held = _table(scores, truths, costs)
    price = np.asarray(costs, dtype=np.float64)
    if not 0.0 <= max_error < 1.0 or grid < 2:
        raise UsageError(f"An error rate in [0, 1) and a grid of 2 or more are needed, got {max_error} and {grid}.")
    chosen = [NEVER] * (table.shape[1] - 1) + [last]
    best = _replay(table, held, price, chosen)
    if best.error > max_error:
        raise UsageError(
            f"The last stage alone decides {best.error:.1%} wrongly, more than {max_error:.1%}.",
            remedy="Give it stricter thresholds, or allow more errors.",
        )
    options = [_pairs(table[:, stage], grid) for stage in range(table.shape[1] - 1)]
    improved = True
    while improved:
        improved = False
        for stage, pairs in enumerate(options):
            for pair in pairs:
                tried = [*chosen[:stage], pair, *chosen[stage + 1 :]]
                found = _replay(table, held, price, tried)
                if found.error <= max_error and found.expected_cost < best.expected_cost - 1e-12:
                    chosen, best, improved = tried, found, True
    return tuple(chosen), best


def _pairs(column: Floats, grid: int) -> list[Thresholds]:
    spoken = column[~np.isnan(column)]
    if not len(spoken):
        return [NEVER]
    marks: list[float | None] = [None, *np.unique(np.quantile(spoken, np.linspace(0, 1, grid))).tolist()]
    return [Thresholds(lo, hi) for lo, hi in product(marks, marks) if lo is None or hi is None or lo < hi]


def _replay(table: Floats, held: Booleans, costs: Floats, thresholds: Sequence[Thresholds]) -> Replayed:
    undecided = np.ones(len(held), dtype=np.bool_)
    wrong = np.zeros(len(held), dtype=np.bool_)
    reached, settled = [], []
    for column, stage in zip(table.T, thresholds, strict=True):
        reached.append(float(undecided.mean()))
        with np.errstate(invalid="ignore"):  # a stage that abstained compares false with everything
            accepts = undecided & (column >= (2.0 if stage.hi is None else stage.hi))
            rejects = undecided & ~accepts & (column <= (-1.0 if stage.lo is None else stage.lo))
        wrong |= (accepts & ~held) | (rejects & held)
        settled.append(float((accepts | rejects).mean()))
        undecided &= ~(accepts | rejects)
    return Replayed(
        expected_cost=float(np.asarray(reached) @ costs),
        error=float(wrong.mean()),
        coverage=float((~undecided).mean()),
        reached=tuple(reached),
        settled=tuple(settled),
    )


def _table(
    scores: Sequence[Sequence[float | None]] | NDArray[Any], truths: Truths, costs: Sequence[float]
) -> tuple[Floats, Booleans]:
    """Scores as [N, S], NaN where a stage abstained: inside this module only, and only from a None."""
    held = booleans(truths, "truths")
    rows = [list(row) for row in scores]
    if not rows or len(rows) != len(held) or any(len(row) != len(costs) for row in rows):
        raise UsageError(f"Every one of {len(held)} labelled subjects needs a score from each of {len(costs)} stages.")
    _hold_costs(costs, len(rows[0]))
    if any(score is not None and not 0.0 <= score <= 1.0 for row in rows for score in row):
        raise UsageError("Scores are probabilities.", remedy="Give None where a stage abstained.")
    return np.array([[np.nan if score is None else score for score in row] for row in rows], dtype=np.float64), held


def _hold_costs(costs: Sequence[float], stages: int) -> None:
    if not stages or not all(0.0 <= cost < float("inf") for cost in costs):
        raise UsageError("A cascade has a stage at least, and costs are finite and not below 0.")
