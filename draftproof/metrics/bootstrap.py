"""Intervals by resampling *problems*: steps and traces of one problem are right or wrong together.

Resampling steps would take fifty steps of one easy problem for fifty facts and give intervals that
are much too narrow. Percentile bootstrap; the same seed gives the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftproof.errors import UsageError
from draftproof.metrics.arrays import aligned

RESAMPLES = 1_000
SEED = 20_240_501
LEVEL = 0.95

Statistic = Callable[..., float | None]
"""A measure of arrays of shape [N]; None where it is undefined."""


@dataclass(frozen=True)
class Interval:
    """A measure and its percentile interval over problems."""

    value: float | None
    """On all examples; None where the measure is undefined."""
    low: float | None
    """None where fewer than two problems, or no resample with a defined value, leave nothing to say."""
    high: float | None
    problems: int
    undefined: int = 0
    """Resamples in which the measure was undefined, e.g. for want of a wrong example; they are left out."""


def bootstrap(
    statistic: Statistic,
    problems: Sequence[Hashable],
    *columns: Sequence[Any] | NDArray[Any],
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """`statistic(*columns)` with an interval over problems.

    `problems` says of each example which problem it belongs to; every column has one entry an example.
    """
    arrays = _arrays(problems, columns)
    return _interval(lambda rows: statistic(*(array[rows] for array in arrays)), problems, resamples, level, seed)


def paired_difference(
    statistic: Statistic,
    problems: Sequence[Hashable],
    first: Sequence[Sequence[Any] | NDArray[Any]],
    second: Sequence[Sequence[Any] | NDArray[Any]],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Interval:
    """`statistic(*second) − statistic(*first)` with an interval over problems.

    Both are measured on the same drawn problems, so that what makes a problem hard for both cancels.
    """
    left, right = _arrays(problems, first), _arrays(problems, second)

    def difference(rows: NDArray[np.int64]) -> float | None:
        before = statistic(*(array[rows] for array in left))
        after = statistic(*(array[rows] for array in right))
        return None if before is None or after is None else after - before

    return _interval(difference, problems, resamples, level, seed)


def _interval(
    measure: Callable[[NDArray[np.int64]], float | None],
    problems: Sequence[Hashable],
    resamples: int,
    level: float,
    seed: int,
) -> Interval:
    if not 0.0 < level < 1.0 or resamples < 1:
        raise UsageError(f"An interval needs a level in (0, 1) and resamples, got {level} and {resamples}.")
    members: dict[Hashable, list[int]] = {}
    for index, problem in enumerate(problems):
        members.setdefault(problem, []).append(index)
    groups = [np.array(rows, dtype=np.int64) for rows in members.values()]
    value = measure(np.arange(len(problems)))
    if len(groups) < 2:
        return Interval(value, None, None, len(groups))
    draw = np.random.default_rng(seed)
    drawn = [
        measure(np.concatenate([groups[i] for i in draw.integers(len(groups), size=len(groups))]))
        for _ in range(resamples)
    ]
    values = [each for each in drawn if each is not None]
    if value is None or not values:
        return Interval(value, None, None, len(groups), len(drawn) - len(values))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), len(groups), len(drawn) - len(values))


def _arrays(problems: Sequence[Hashable], columns: Sequence[Sequence[Any] | NDArray[Any]]) -> list[NDArray[Any]]:
    if not columns:
        raise UsageError("A measure needs a column of examples at least.")
    aligned(("problems", problems), *((f"entries of column {index}", column) for index, column in enumerate(columns)))
    return [np.asarray(column) for column in columns]
