"""How good a router is, on problems that it was not fitted to."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from draftproof.verdict import Probability
from draftproof.verifiers.routers.rows import RouterRow


class ReliabilityBin(BaseModel):
    """Held-out rows of similar probability: what was promised, and what came true."""

    model_config = ConfigDict(frozen=True)

    rows: int
    mean_probability: Probability
    share_better: Probability


class RouterReport(BaseModel):
    """Measures of a fitted router on held-out problems. Whatever is undefined there is None."""

    model_config = ConfigDict(frozen=True)

    rows: int
    """All that were given."""
    problems: int
    fitted_rows: int
    base_rate: Probability
    """Share of the rows it was fitted to in which the target was better. Where each class counts the same for
    fitting, this is where its even odds lie now: the threshold of the two accuracies."""
    held_out_rows: int
    held_out_problems: int
    held_out_base_rate: Probability
    spearman: float | None
    """Rank correlation of probability and advantage: how good a router is at any threshold. The published ones have
    0.13 … 0.17."""
    spearman_low: float | None
    """95 % interval, resampling problems."""
    spearman_high: float | None
    accuracy_not_better: float | None
    """Share of the steps whose draft was as good that are left to the draft."""
    accuracy_better: float | None
    """Share of the steps that the target does better that are given to it."""
    brier: float
    """Mean squared error of the probabilities."""
    brier_of_base_rate: float
    """Of always saying `base_rate`: what a router must beat to know anything."""
    ece: float
    """Expected calibration error, bins of equal mass."""
    reliability: tuple[ReliabilityBin, ...]
    features_left_out: tuple[str, ...]
    """Not in every row, or not what this kind of router reads."""
    too_long: int
    """Rows left out because their text was too long for a router of text."""
    scorer: str
    """Which verifier's scores the advantage is the difference of. Nobody checked them against the truth here."""

    @property
    def says_something(self) -> bool:
        """Whether its order is better than chance, by the interval of the rank correlation."""
        return self.spearman_low is not None and self.spearman_low > 0.0


def measured(
    held_out: Sequence[tuple[RouterRow, float]],
    *,
    rows: int,
    problems: int,
    fitted: int,
    base_rate: float,
    left_out_features: Sequence[str],
    too_long: int,
    scorer: str,
) -> RouterReport:
    """The report on held-out rows, each with the probability it was given."""
    from draftproof.metrics.bootstrap import bootstrap
    from draftproof.metrics.classification import brier, ece, reliability
    from draftproof.metrics.routing import spearman

    chances = [chance for _, chance in held_out]
    labels = [bool(row.label) for row, _ in held_out]
    of_problem = [row.problem for row, _ in held_out]
    ranks = bootstrap(spearman, of_problem, chances, [row.advantage for row, _ in held_out])
    return RouterReport(
        rows=rows,
        problems=problems,
        fitted_rows=fitted,
        base_rate=base_rate,
        held_out_rows=len(held_out),
        held_out_problems=len(set(of_problem)),
        held_out_base_rate=sum(labels) / len(labels),
        spearman=ranks.value,
        spearman_low=ranks.low,
        spearman_high=ranks.high,
        accuracy_not_better=_share([chance <= base_rate for row, chance in held_out if not row.label]),
        accuracy_better=_share([chance > base_rate for row, chance in held_out if row.label]),
        brier=brier(labels, chances),
        brier_of_base_rate=brier(labels, [base_rate] * len(labels)),
        ece=ece(labels, chances),
        reliability=tuple(
            ReliabilityBin(rows=each.count, mean_probability=each.mean_score, share_better=each.share_true)
            for each in reliability(labels, chances)
        ),
        features_left_out=tuple(left_out_features),
        too_long=too_long,
        scorer=scorer,
    )


def _share(right: Sequence[bool]) -> float | None:
    return sum(right) / len(right) if right else None
