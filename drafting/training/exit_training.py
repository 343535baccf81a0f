"""Training of what reads an exit: an `ExitAdapter` or a `KangarooAdapter`, on states of a target that stays as it is.

The loss is the divergence of what is drafted from what the target says, on the target's most probable tokens and one
outcome for all others. Where the vocabulary is trimmed, the target's distribution is renormalised on what can be
drafted: more acceptance than that is not to be had. Training ends when held-out acceptance no longer rises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary, normalised, output_rows
from draftproof.drafting.drafters.weights_digest import weights_digest
from draftproof.drafting.model import CachedModel
from draftproof.drafting.training.divergences import TINY, Divergence, divergence, on_outcomes
from draftproof.drafting.training.exit_states import ExitStates
from draftproof.drafting.training.optimisation import Optimisation, check_learning_rate, shuffled
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import UsageError


@dataclass(frozen=True)
class ExitTraining:
    """How a readout is trained."""

    epochs: int = 20
    """At most."""
    batch: int = 8
    """Texts a step."""
    learning_rate: float = 1e-3
    divergence: Divergence = "fkl"
    patience: int = 3
    """Epochs without a better acceptance before training ends."""
    held_out: float = 0.1
    """Share of the texts that acceptance is measured on."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.patience < 1:
            raise UsageError("epochs, batch and patience must be at least 1.")
        if not 0.0 < self.held_out < 1.0:
            raise UsageError(f"held_out is {self.held_out}, it must lie between 0 and 1.")
        check_learning_rate(self.learning_rate)


@dataclass(frozen=True)
class Epoch:
    number: int
    """0 is before training."""
    loss: float
    """Mean over the epoch's steps; of epoch 0, on held-out text."""
    acceptance: float
    """Σ min(p, q) at held-out positions, over the target's most probable tokens only: at least so many drafted tokens
    are accepted when sampling at temperature 1."""


def train_readout(
    readout: nn.Module,
    model: CachedModel,
    data: ExitStates,
    trimmed: TrimmedVocabulary | None,
    training: ExitTraining,
    *,
    checkpoint: Path | None = None,
    report: Report = silent,
) -> tuple[Epoch, ...]:
    """Train `readout`, which makes states [n, H] of a text's states [n, H], and leave its best weights in it.

    With a `checkpoint`, a run that was stopped is gone on with, and ends as it would have ended. Of a run that ended,
    nothing is done again.
    """
    if data.n_texts < 2:
        raise UsageError("At least two texts are needed: one is held out.")
    held = max(1, round(training.held_out * data.n_texts))
    order = torch.randperm(data.n_texts, generator=torch.Generator().manual_seed(training.seed)).tolist()
    held_out, taught = order[:held], order[held:]
    goal = _Goal(model, data, trimmed)
    each_epoch = -(-len(taught) // training.batch)
    optimisation = Optimisation(
        dict(readout.named_parameters()),
        steps=training.epochs * each_epoch,
        learning_rate=training.learning_rate,
        settings=asdict(training)
        | {"data": data.digest, "exit": data.layer, "readout": weights_digest(readout, trimmed)},
        file=checkpoint,
    )
    course = _Course.of(optimisation.carried)
    if course is None:
        course = _Course([Epoch(0, *goal.measured(readout, held_out, training.divergence))], [], _copied(readout))
    history, losses = course.history, course.losses
    readout.train()
    while True:
        if len(losses) == each_epoch:
            _, accepted = goal.measured(readout, held_out, training.divergence)
            if accepted > course.best.acceptance:
                course.kept = _copied(readout)
            history.append(Epoch(len(history), sum(losses) / len(losses), accepted))
            losses.clear()
            detail = f"loss {history[-1].loss:.3f}, acceptance {accepted:.3f}"
            report("training", history[-1].number, training.epochs, detail)
        if optimisation.finished or history[-1].number - course.best.number >= training.patience:
            break
        chosen = shuffled(len(taught), training.batch, optimisation.done, training.seed)
        loss = goal.loss(readout, [taught[index] for index in chosen.tolist()], training.divergence)
        losses.append(float(loss.detach()))
        optimisation.carried = course.tensors()
        optimisation.step(loss)
    optimisation.carried = course.tensors()
    optimisation.save()
    readout.load_state_dict(course.kept)
    readout.eval().requires_grad_(False)
    return tuple(history)


@dataclass
class _Course:
    """What a run must know of itself to go on, beside weights and moments."""

    history: list[Epoch]
    losses: list[float]
    """Of the steps since the last epoch."""
    kept: dict[str, Tensor]
    """The readout's state after the best epoch."""

    @property
    def best(self) -> Epoch:
        """The first of the best ones."""
        return max(self.history, key=lambda epoch: epoch.acceptance)

    def tensors(self) -> dict[str, Tensor]:
        epochs = torch.tensor([[epoch.loss, epoch.acceptance] for epoch in self.history], dtype=torch.float64)
        losses = torch.tensor(self.losses, dtype=torch.float64)
        return {"epochs": epochs, "losses": losses} | {f"kept.{name}": each for name, each in self.kept.items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> _Course | None:
        """None where no run has begun."""
        if not tensors:
            return None
        return cls(
            [Epoch(number, *figures) for number, figures in enumerate(tensors["epochs"].tolist())],
            tensors["losses"].tolist(),
            {name.removeprefix("kept."): each for name, each in tensors.items() if name.startswith("kept.")},
        )


class _Goal:
    """The target's head on what can be drafted, and what it said at each position."""

    def __init__(self, model: CachedModel, data: ExitStates, trimmed: TrimmedVocabulary | None) -> None:
        info = model.info
        ids = torch.arange(info.vocab_size) if trimmed is None else trimmed.ids
        if len(ids) <= data.top_ids.shape[1]:
            raise UsageError(f"A vocabulary of {len(ids)} tokens leaves none beside the most probable ones.")
        self._data = data
        self._weight, self._bias = output_rows(model, ids)
        self._columns = data.top_ids if trimmed is None else trimmed.classes(data.top_ids)
        """[N, TOP]: column of each listed token; W where it cannot be drafted."""
        can = self._columns < len(ids)
        self._listed = data.top_logprobs.masked_fill(~can, -torch.inf)
        lost = data.top_logprobs.exp().masked_fill(can, 0.0).sum(-1, keepdim=True)
        rest = (1.0 - data.top_logprobs.exp().sum(-1, keepdim=True)).clamp_min(TINY)
        reachable = (1.0 - lost).clamp_min(TINY)
        self._outcomes = torch.cat([self._listed, rest.log()], dim=-1) - reachable.log()
        self._reachable = reachable.squeeze(-1)

    def loss(self, readout: nn.Module, texts: Sequence[int], kind: Divergence) -> Tensor:
        """Mean divergence, each position weighing as much as the target's mass there that can be drafted at all."""
        draft, at = self._drafted(readout, texts)
        weight = self._reachable[at]
        return (weight * divergence(kind, self._outcomes[at], draft)).sum() / weight.sum()

    @torch.no_grad()
    def measured(self, readout: nn.Module, texts: Sequence[int], kind: Divergence) -> tuple[float, float]:
        """Loss and acceptance, text by text."""
        readout.eval()
        loss = accepted = positions = 0.0
        for text in texts:
            draft, at = self._drafted(readout, [text])
            loss += len(at) * float(divergence(kind, self._outcomes[at], draft).mean())
            accepted += float(torch.minimum(self._listed[at].exp(), draft[:, :-1].exp()).sum())
            positions += len(at)
        readout.train()
        return loss / positions, accepted / positions

    def _drafted(self, readout: nn.Module, texts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Log-probabilities [n, TOP + 1] of the outcomes that are drafted, and the positions [n] they are at."""
        states = torch.cat([readout(self._data.states(text)) for text in texts])
        at = torch.cat([torch.arange(len(self._columns))[self._data.span(text)] for text in texts])
        logits = nn.functional.linear(normalised(states), self._weight, self._bias)
        never = logits.new_full((len(logits), 1), -torch.inf)  # the column of what cannot be drafted
        return on_outcomes(torch.cat([logits, never], dim=-1), self._columns[at]), at


def _copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
