"""Logistic regression with an L2 penalty: a router from ten numbers and a weight for each.

Fitted on standardised features. The penalised loss is strictly convex, so there is one optimum, whatever the data:
classes that can be told apart perfectly have finite weights too. A stored model is read and evaluated without NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from draftproof.errors import NumericalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LogisticModel:
    """`logit = intercept + Σ weight · (value - mean) / scale`."""

    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    kind: Literal["logistic"] = "logistic"

    def logit(self, values: Sequence[float]) -> float:
        terms = zip(self.weights, values, self.means, self.scales, strict=True)
        return self.intercept + math.fsum(weight * (value - mean) / scale for weight, value, mean, scale in terms)

    def shifted(self, by: float) -> LogisticModel:
        """The same with every logit moved."""
        return LogisticModel(self.means, self.scales, self.weights, self.intercept + by)

    def stored(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def restored(cls, stored: Mapping[str, Any], features: int) -> LogisticModel:
        """Raises ValueError, KeyError or TypeError for what is no such model of so many features."""
        means, scales, weights = (_numbers(stored[name], features) for name in ("means", "scales", "weights"))
        if not all(scale > 0.0 for scale in scales):
            raise ValueError("a scale is not above 0")
        return cls(means, scales, weights, _numbers([stored["intercept"]], 1)[0])


def fit_logistic(
    values: NDArray[np.float64], labels: NDArray[np.float64], weights: NDArray[np.float64], *, l2: float = 1.0
) -> LogisticModel:
    """Minimise `Σ wᵢ · log-loss(yᵢ) + l2/2 · |weights|²`; the intercept is free.

    Args:
        values: [n, d] features.
        labels: [n] of 0 and 1.
        weights: [n], above 0: how much each row counts.

    Raises NumericalError where Newton's method does not arrive, which finite features do not lead to.
    """
    import numpy as np

    from draftproof.verifiers.combining.logistic import fit

    with np.errstate(over="ignore", invalid="ignore"):
        means = values.mean(axis=0)
        spread = values.std(axis=0)
    if not (np.isfinite(means).all() and np.isfinite(spread).all()):
        raise NumericalError(
            "A feature has no finite mean or spread.", remedy="Look for features of enormous size among the rows."
        )
    # A feature that never changes says nothing, and rounding must not make it look as if it did.
    constant = spread <= 1e-12 * np.maximum(1.0, np.abs(means))
    scales = np.where(constant, 1.0, spread)
    design = np.where(constant, 0.0, (values - means) / scales)
    design = np.concatenate([np.ones((len(design), 1)), design], axis=1)  # [n, 1+d]
    penalty = np.array([0.0] + [l2] * values.shape[1])
    intercept, *fitted = fit(design, labels, l2=penalty, centre=np.zeros(len(penalty)), weights=weights).tolist()
    return LogisticModel(tuple(means.tolist()), tuple(scales.tolist()), tuple(fitted), intercept)


def _numbers(given: Any, count: int) -> tuple[float, ...]:
    if not isinstance(given, (list, tuple)) or len(given) != count:
        raise ValueError(f"{count} numbers are expected")
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in given):
        raise ValueError("a number is expected")
    numbers = tuple(float(each) for each in given)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers
