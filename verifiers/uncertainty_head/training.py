"""Training of a head: weighted cross-entropy, stopped where it ranks the steps of unseen problems best.

A step's data and dropout are functions of the seed and the step's number, and what early stopping remembers is stored
with the optimiser's state: a run that was killed ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from draftproof.drafting.training.optimisation import Optimisation, check_learning_rate, shuffled
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import UsageError
from draftproof.metrics.classification import wrong_pr_auc
from draftproof.verifiers.uncertainty_head.examples import Examples, Split
from draftproof.verifiers.uncertainty_head.head import HeadConfig, StepHead, logits_of, padded


@dataclass(frozen=True)
class HeadTraining:
    """How a head is trained. Defaults after arXiv 2511.06209, section 4, for fewer examples."""

    epochs: int = 30
    """At most."""
    patience: int = 6
    """Epochs without a better PR-AUC on the validation problems after which training stops."""
    batch: int = 64
    """Steps of reasoning in a step of training."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    pos_weight: float = 3.0
    """Weight of a wrong step; that of a right one is 1."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.patience, self.batch) < 1:
            raise UsageError("epochs, patience and batch must be at least 1.")
        if not 0.0 < self.pos_weight < math.inf or not 0.0 <= self.weight_decay < math.inf:
            raise UsageError("The weight of wrong steps is above 0 and finite, and weight decay at least 0.")
        check_learning_rate(self.learning_rate)


@dataclass(frozen=True)
class TrainingResult:
    head: StepHead
    history: tuple[float, ...]
    """PR-AUC of the wrong class on the validation problems after each epoch."""
    best_epoch: int
    """The one whose weights were kept, from 1."""


def train_head(
    examples: Examples,
    parts: Split,
    config: HeadConfig,
    training: HeadTraining = HeadTraining(),
    *,
    checkpoint: Path | None = None,
    report: Report = silent,
) -> TrainingResult:
    """A head in evaluation mode, with the weights of the epoch that ranked the validation problems' steps best.

    Weighting wrong steps makes them learnt from, and bends probabilities: at the optimum the odds of *wrong* are
    multiplied by the weight. The logarithm of the weight is taken from the last bias when training is over, so that
    the head's probabilities are of steps as they come.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        head = StepHead(config)
    head.normalise_by(*_moments([examples.features[index] for index in parts.train.tolist()]))
    each_epoch = -(-len(parts.train) // training.batch)
    optimisation = Optimisation(
        dict(head.named_parameters()),
        steps=training.epochs * each_epoch,
        learning_rate=training.learning_rate,
        settings=asdict(training) | {"head": asdict(config), "data": examples.digest},
        file=checkpoint,
        weight_decay=training.weight_decay,
    )
    stopper = _Stopper(head, optimisation, training.patience)
    weight = torch.tensor(training.pos_weight)
    while True:
        if optimisation.done == (stopper.epochs + 1) * each_epoch:
            stopper.after_epoch(_validation_pr_auc(head, examples, parts.validation))
            report("training", optimisation.done, training.epochs * each_epoch, stopper.said)
        if optimisation.finished or stopper.stops:
            break
        chosen = parts.train[shuffled(len(parts.train), training.batch, optimisation.done, training.seed)]
        features, real = padded([examples.features[index] for index in chosen.tolist()])
        head.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed * 1_000_003 + optimisation.done)
            logits = head(features, real)
        loss = binary_cross_entropy_with_logits(logits, examples.wrong[chosen].float(), pos_weight=weight)
        optimisation.step(loss)
        report("training", optimisation.done, training.epochs * each_epoch, f"loss {float(loss.detach()):.3f}")
    stopper.restore()
    head.eval().requires_grad_(False)
    with torch.no_grad():
        head.second.bias.sub_(math.log(training.pos_weight))
    return TrainingResult(head, tuple(stopper.history), stopper.best_epoch)


class _Stopper:
    """Remembers the best epoch's weights, in what the optimisation stores."""

    def __init__(self, head: StepHead, optimisation: Optimisation, patience: int) -> None:
        self._parameters = dict(head.named_parameters())
        self._optimisation = optimisation
        self._patience = patience
        found = optimisation.carried.get("history")
        self.history: list[float] = [] if found is None else found.tolist()

    @property
    def epochs(self) -> int:
        return len(self.history)

    @property
    def best_epoch(self) -> int:
        """The earliest of the best, from 1."""
        return self.history.index(max(self.history)) + 1

    @property
    def stops(self) -> bool:
        return bool(self.history) and self.epochs - self.best_epoch >= self._patience

    @property
    def said(self) -> str:
        return f"validation PR-AUC {self.history[-1]:.3f}, best {max(self.history):.3f}"

    def after_epoch(self, pr_auc: float) -> None:
        self.history.append(pr_auc)
        carried = dict(self._optimisation.carried)
        if self.best_epoch == self.epochs:
            carried |= {f"best.{name}": value.detach().clone() for name, value in self._parameters.items()}
        carried["history"] = torch.tensor(self.history, dtype=torch.float64)
        self._optimisation.carried = carried
        self._optimisation.save()

    @torch.no_grad()
    def restore(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(self._optimisation.carried[f"best.{name}"])


def _validation_pr_auc(head: StepHead, examples: Examples, part: Tensor) -> float:
    head.eval()
    logits = logits_of(head, [examples.features[index] for index in part.tolist()])
    found, _ = wrong_pr_auc((~examples.wrong[part]).numpy(), (-logits.double()).numpy())
    return 0.0 if found is None else found


def _moments(features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [F] of all tokens, summed in float64 a step at a time."""
    count = sum(len(step) for step in features)
    total = torch.zeros(features[0].shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for step in features:
        exact = step.double()
        total += exact.sum(0)
        squares += exact.square().sum(0)
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(0.0).sqrt().float()
