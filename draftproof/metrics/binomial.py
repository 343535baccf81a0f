"""The exact (Clopper-Pearson) interval of a share: it covers the truth at least as often as it says, however few were
counted. For counts of independent things; where several belong to one problem, resample problems instead."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, fsum, lgamma, log, log1p

from draftproof.errors import UsageError

_HALVINGS = 60


def exact_interval(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Lower and upper bound of a probability by which `hits` of `of` independent tries succeeded.

    Of no tries, nothing is known: (0, 1).
    """
    if not 0 <= hits <= of or not 0.0 < level < 1.0:
        raise UsageError(f"An interval is of some hits in some tries, at a level in (0, 1); got {hits}, {of}, {level}.")
    tail = (1.0 - level) / 2
    low = 0.0 if hits == 0 else _root(lambda p: _at_least(hits, of, p) - tail)
    high = 1.0 if hits == of else _root(lambda p: tail - _at_most(hits, of, p))
    return low, high


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises over [0, 1] crosses zero."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0.0 else (middle, high)
    return (low + high) / 2


def _at_least(hits: int, of: int, p: float) -> float:
    return fsum(_exactly(count, of, p) for count in range(hits, of + 1))


def _at_most(hits: int, of: int, p: float) -> float:
    return fsum(_exactly(count, of, p) for count in range(hits + 1))


def _exactly(hits: int, of: int, p: float) -> float:
    ways = lgamma(of + 1) - lgamma(hits + 1) - lgamma(of - hits + 1)
    return exp(ways + hits * log(p) + (of - hits) * log1p(-p))
