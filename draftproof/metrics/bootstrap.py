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
    arrays, groups = _arrays(problems, columns), _groups(problems)
    drawn = _drawn(lambda rows: statistic(*(array[rows] for array in arrays)), groups, resamples, level, seed)
    return _interval(drawn, len(groups), level)


@dataclass(frozen=True)
class Paired:
    """A measure of two things on the same problems."""

    first: Interval
    second: Interval
    difference: Interval
    """`second − first`, both measured on the same drawn problems: what makes a problem hard for both cancels."""


def paired(
    statistic: Statistic,
    problems: Sequence[Hashable],
    first: Sequence[Sequence[Any] | NDArray[Any]],
    second: Sequence[Sequence[Any] | NDArray[Any]],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = SEED,
) -> Paired:
    """`statistic(*first)`, `statistic(*second)` and their difference, each with an interval over problems."""
    left, right = _arrays(problems, first), _arrays(problems, second)
    groups = _groups(problems)

    def drawn(arrays: Sequence[NDArray[Any]]) -> list[float | None]:
        return _drawn(lambda rows: statistic(*(array[rows] for array in arrays)), groups, resamples, level, seed)

    before, after = drawn(left), drawn(right)
    change = [None if a is None or b is None else b - a for a, b in zip(before, after, strict=True)]
    return Paired(*(_interval(values, len(groups), level) for values in (before, after, change)))


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
    """`statistic(*second) − statistic(*first)` with an interval over problems."""
    return paired(statistic, problems, first, second, resamples=resamples, level=level, seed=seed).difference


_Rows = NDArray[np.int64]


def _groups(problems: Sequence[Hashable]) -> list[_Rows]:
    """Indices of the examples of each problem."""
    members: dict[Hashable, list[int]] = {}
    for index, problem in enumerate(problems):
        members.setdefault(problem, []).append(index)
    return [np.array(rows, dtype=np.int64) for rows in members.values()]


def _drawn(
    measure: Callable[[_Rows], float | None], groups: Sequence[_Rows], resamples: int, level: float, seed: int
) -> list[float | None]:
    """The measure on everything, then on each resample; of one problem there are no resamples."""
    if not 0.0 < level < 1.0 or resamples < 1:
        raise UsageError(f"An interval needs a level in (0, 1) and resamples, got {level} and {resamples}.")
    whole = measure(np.sort(np.concatenate(groups)))
    if len(groups) < 2:
        return [whole]
    draw = np.random.default_rng(seed)
    choices = (draw.integers(len(groups), size=len(groups)) for _ in range(resamples))
    return [whole, *(measure(np.concatenate([groups[i] for i in choice])) for choice in choices)]


def _interval(drawn: Sequence[float | None], problems: int, level: float) -> Interval:
    value, *resampled = drawn
    values = [each for each in resampled if each is not None]
    undefined = len(resampled) - len(values)
    if value is None or not values:
        return Interval(value, None, None, problems, undefined)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), problems, undefined)


def _arrays(problems: Sequence[Hashable], columns: Sequence[Sequence[Any] | NDArray[Any]]) -> list[NDArray[Any]]:
    if not columns:
        raise UsageError("A measure needs a column of examples at least.")
    aligned(("problems", problems), *((f"entries of column {index}", column) for index, column in enumerate(columns)))
    return [np.asarray(column) for column in columns]
