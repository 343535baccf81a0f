"""Whether counts are those of a law: chi-square with small cells merged, and total variation against its noise."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

LEAST_EXPECTED = 5.0
LEAST_P_VALUE = 1e-4


def p_value(counts: np.ndarray, law: np.ndarray) -> float:
    """Chi-square p-value of `counts` under `law`, flat arrays of one length; 0 where the impossible was counted."""
    total = counts.sum()
    expected = law * total
    if counts[law <= 0].sum():
        return 0.0
    order = np.argsort(expected)
    merged = int((expected < LEAST_EXPECTED).sum())
    if merged:  # topped up with the next ones where all small cells together do not reach what is wanted
        merged = max(merged, int(np.searchsorted(np.cumsum(expected[order]), LEAST_EXPECTED)) + 1)
    small, kept = order[:merged], order[merged:]
    observed, wanted = list(counts[kept]), list(expected[kept])
    if expected[small].sum() > 0:
        observed.append(counts[small].sum())
        wanted.append(expected[small].sum())
    if len(observed) < 2:
        return 1.0
    statistic = sum((o - w) ** 2 / w for o, w in zip(observed, wanted, strict=True))
    return float(stats.chi2.sf(statistic, len(observed) - 1))


def noise(law: np.ndarray, total: float) -> float:
    """Mean total variation between a law and the frequencies of that many draws from it."""
    return 0.5 * float(np.sqrt(2 * law * (1 - law) / (math.pi * total)).sum())


def fits(counts: np.ndarray, law: np.ndarray) -> bool:
    """Both tests."""
    total = float(counts.sum())
    far = 0.5 * float(np.abs(counts / total - law).sum())
    return p_value(counts, law) > LEAST_P_VALUE and far < 3 * noise(law, total)
