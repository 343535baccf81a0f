"""What scores of steps are worth, on problems that nothing was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.metrics.bootstrap import bootstrap
from draftproof.metrics.classification import brier, ece, roc_auc, wrong_fpr_at_tpr, wrong_pr_auc
from draftproof.verifiers.uncertainty_head.examples import Examples
from draftproof.verifiers.uncertainty_head.head import StepHead, logits_of


@dataclass(frozen=True)
class Measured:
    """One verifier on held-out steps. A measure that needs both classes is None where one is empty."""

    name: str
    steps: int
    """Those that it gave a score."""
    base_rate: float
    """Share of wrong steps: the PR-AUC of guessing."""
    pr_auc: float | None
    """Average precision of finding what is wrong."""
    pr_auc_low: float | None
    pr_auc_high: float | None
    """95 % interval, resampled over problems."""
    roc_auc: float | None
    fpr_at_95: float | None
    """Right steps suspected when 95 % of the wrong ones are."""
    brier: float
    ece: float


def measure(name: str, wrong: Tensor, scores: Tensor, problems: Sequence[str]) -> Measured:
    """`scores` [n]: probability that each step is correct; `wrong` [n] bool."""
    truths, given = (~wrong).numpy(), scores.double().numpy()
    interval = bootstrap(lambda t, s: wrong_pr_auc(t, s)[0], problems, truths, given, resamples=300)
    return Measured(
        name=name,
        steps=len(given),
        base_rate=float(wrong.double().mean()),
        pr_auc=interval.value,
        pr_auc_low=interval.low,
        pr_auc_high=interval.high,
        roc_auc=roc_auc(truths, given),
        fpr_at_95=wrong_fpr_at_tpr(truths, given),
        brier=brier(truths, given),
        ece=ece(truths, given),
    )


def measure_all(
    head: StepHead, examples: Examples, part: Tensor, others: Mapping[str, Sequence[float | None]] | None = None
) -> list[Measured]:
    """The head and the baselines on the same steps; `others`: further scores of them, None where one abstained."""
    chosen = part.tolist()
    wrong = examples.wrong[part]
    problems = [examples.problems[index] for index in chosen]
    logits = logits_of(head, [examples.features[index] for index in chosen])
    rows = [measure("uncertainty-head", wrong, 1.0 - torch.sigmoid(logits.double()), problems)]
    rows += [measure(name, wrong, scores[part], problems) for name, scores in examples.baselines.items()]
    for name, given in (others or {}).items():
        kept = [place for place, score in enumerate(given) if score is not None]
        if kept:
            scores = torch.tensor([score for score in given if score is not None], dtype=torch.float64)
            rows.append(measure(name, wrong[kept], scores, [problems[place] for place in kept]))
    return rows
