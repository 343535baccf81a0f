"""Training of Medusa and Hydra heads on cached features of a target that stays as it is.

Head k (0-based) of the state after token i is taught what the target says after token i + 1 + k: its probabilities on
the tokens that are listed there and kept in the trimmed vocabulary, and everything else as one outcome.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from draftproof.drafting.drafters.head_models import DraftHeads, HeadsConfig, HeadsRecord, Kind
from draftproof.drafting.drafters.head_tree import best_shape
from draftproof.drafting.drafters.vocab_trim import TrimmedVocabulary, normalised, output_rows
from draftproof.drafting.model import CachedModel
from draftproof.drafting.training.features import Features
from draftproof.drafting.training.optimisation import Optimisation, check_learning_rate, shuffled
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import UsageError

RANKS = 10
"""Candidates of a head whose accuracy is measured."""

_MOST_MEASURED = 4_096
"""Held-out positions that accuracies are measured at: their standard error is below 0.8 % then."""


@dataclass(frozen=True)
class HeadsTraining:
    """How heads are trained."""

    kind: Kind = "hydra"
    n_heads: int = 4
    n_layers: int = 1
    epochs: int = 3
    batch: int = 512
    """Positions a step."""
    learning_rate: float = 1e-3
    targets: Literal["soft", "hard"] = "soft"
    """`soft`: the target's probabilities; `hard`: the token that came."""
    train_output: bool = False
    """Whether the shared output matrix is trained too, or stays the target's."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise UsageError(f"epochs and batch must be at least 1, got {self.epochs} and {self.batch}.")
        if self.targets not in ("soft", "hard"):
            raise UsageError(f"Targets are 'soft' or 'hard', not {self.targets!r}.")
        check_learning_rate(self.learning_rate)


@dataclass(frozen=True)
class Accuracy:
    """What heads are worth on held-out text."""

    ranks: tuple[tuple[float, ...], ...]
    """[K][RANKS]: how often candidate i of head k is the target's arg-max, the tokens before it being right."""
    positions: int

    @property
    def top1(self) -> tuple[float, ...]:
        return tuple(row[0] for row in self.ranks)

    def acceptance_length(self, nodes: int) -> float:
        """Expected tokens a verification under the best static tree of so many nodes."""
        return best_shape(self.ranks, nodes).acceptance_length


def train_heads(
    model: CachedModel,
    features: Features,
    trimmed: TrimmedVocabulary,
    training: HeadsTraining = HeadsTraining(),
    *,
    data_digest: str = "",
    checkpoint: Path | None = None,
    dtype: torch.dtype = torch.float32,
    report: Report = silent,
) -> tuple[DraftHeads, HeadsRecord]:
    """Heads for `model`, trained on all texts but those of the prompts that are held out.

    Args:
        data_digest: identifies the text; stored with the heads.
        checkpoint: where the state of training lies; a run that finds one goes on with it.
        dtype: of the output matrix product, which takes most of the time. bfloat16 is several times as fast on CPUs
            with matrix units, and makes no difference that shows.
    """
    info = model.info
    config = HeadsConfig(training.kind, training.n_heads, info.hidden_size, info.vocab_size, training.n_layers)
    heads = DraftHeads(config, trimmed, output_rows(model, trimmed.ids), train_output=training.train_output)
    heads = heads.to(info.device).train()
    held_out = held_out_texts(features)
    data = _Data(model, features, trimmed, training.n_heads)
    positions = data.positions(~held_out)
    if not len(positions):
        raise UsageError("The texts are too short to train heads on: none has two tokens after its prompt.")
    each_epoch = -(-len(positions) // training.batch)
    settings = asdict(training) | {
        "target": info.digest,
        "data": data_digest,
        "positions": len(positions),
        "vocabulary": sha256(str(trimmed.ids.tolist()).encode()).hexdigest(),
    }
    optimisation = Optimisation(
        dict(heads.named_parameters()),
        steps=training.epochs * each_epoch,
        learning_rate=training.learning_rate,
        settings=settings,
        file=checkpoint,
    )
    history: list[dict[str, object]] = []
    while not optimisation.finished:
        chosen = positions[shuffled(len(positions), training.batch, optimisation.done, training.seed)]
        loss = _loss(heads, data, chosen, training.targets, dtype)
        optimisation.step(loss)
        detail = f"loss {float(loss.detach()) / training.n_heads:.3f}"
        report("training", optimisation.done, training.epochs * each_epoch, detail)
        if optimisation.done % each_epoch == 0 and not optimisation.finished:
            measured = accuracy(heads, model, features, held_out)
            history.append({"epoch": optimisation.done // each_epoch, "top1": measured.top1})
            report("training", optimisation.done, training.epochs * each_epoch, _shown(measured))
    heads.eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.copy_(parameter.to(torch.float16))  # as they will be stored: what is measured is what is used
    measured = accuracy(heads, model, features, held_out)
    history.append({"epoch": training.epochs, "top1": measured.top1})
    record = HeadsRecord(
        target=info.name,
        target_digest=info.digest,
        data_digest=data_digest,
        accuracies=measured.ranks,
        sharpness=sharpness(heads, model, features, held_out),
        training=asdict(training)
        | {
            "train_positions": len(positions),
            "held_out_positions": measured.positions,
            "held_out_coverage": trimmed.coverage(_continuations(features, held_out)),
            "epochs_held_out": history,
        },
    )
    return heads, record


def held_out_texts(features: Features) -> Tensor:
    """[M] bool: texts that are not trained on, a tenth of the prompts. Texts of one prompt are on one side."""
    prompts = [
        sha256(features.text(m)[: int(features.prompt_lengths[m])].numpy().tobytes()).digest()
        for m in range(features.n_texts)
    ]
    distinct = sorted(set(prompts))
    if len(distinct) < 2:
        raise UsageError("All texts have the same prompt, and one must be held out.", remedy="Give more prompts.")
    held = set(distinct[: max(1, round(0.1 * len(distinct)))])
    return torch.tensor([prompt in held for prompt in prompts])


def accuracy(heads: DraftHeads, model: CachedModel, features: Features, texts: Tensor) -> Accuracy:
    """Accuracies at (at most 4,096 evenly spread) positions of the texts [M] bool, the right tokens before given."""
    data = _Data(model, features, heads.trimmed, heads.config.n_heads)
    positions = _spread(data.positions(texts), _MOST_MEASURED)
    hits = torch.zeros(heads.config.n_heads, RANKS)
    counts = torch.zeros(heads.config.n_heads)
    with torch.inference_mode():
        for chosen in positions.split(512):
            for head in range(heads.config.n_heads):
                at = chosen[data.valid(chosen, head)]
                if not len(at):
                    continue
                logits = heads.logits(heads.state(head, data.hidden(at), data.embedded(at, head)))
                # Over the kept tokens: the rest is no candidate, and a token that was dropped is never hit.
                best = logits[:, :-1].topk(min(RANKS, heads.trimmed.size), dim=1).indices.cpu()
                right = data.classes[at + 1 + head, 0]
                hits[head, : best.shape[1]] += (best == right.unsqueeze(1)).sum(0)
                counts[head] += len(at)
    rates = (hits / counts.clamp_min(1).unsqueeze(1)).tolist()
    return Accuracy(tuple(tuple(row) for row in rates), int(counts[0]))


def sharpness(
    heads: DraftHeads, model: CachedModel, features: Features, texts: Tensor
) -> tuple[tuple[float, float], ...]:
    """Factors of each head's logits that make its probabilities true: of the arg-max, and of the target's draws.

    The cross-entropy to either is least at them (temperature scaling, Guo et al., arXiv 1706.04599, section 4.2).
    """
    data = _Data(model, features, heads.trimmed, heads.config.n_heads)
    positions = _spread(data.positions(texts), 1_024)
    factors = torch.linspace(0.3, 2.5, 45)
    found: list[tuple[float, float]] = []
    with torch.inference_mode():
        for head in range(heads.config.n_heads):
            at = positions[data.valid(positions, head)]
            if not len(at):
                found.append((1.0, 1.0))
                continue
            logits = heads.logits(heads.state(head, data.hidden(at), data.embedded(at, head)))
            classes, mass = data.classes[at + 1 + head].to(logits.device), data.mass(at + 1 + head)
            greedy = [float(torch.nn.functional.cross_entropy(logits * f, classes[:, 0])) for f in factors]
            sampled = [float(cross_entropy(logits * f, classes, mass)) for f in factors]
            best = [float(factors[losses.index(min(losses))]) for losses in (greedy, sampled)]
            found.append((best[0], best[1]))
    return tuple(found)


def cross_entropy(logits: Tensor, classes: Tensor, mass: Tensor) -> Tensor:
    """Mean cross-entropy of heads' logits [n, W + 1] to the target's distribution, in nats.

    `classes` [n, K] of the listed tokens, W for those that are not kept; `mass` [n, K + 1]: probability of each
    listed token, 0 where it is not kept, and last of all else. What is not listed, and the class of dropped tokens,
    is one outcome: nothing is known of how it is shared out, but its sum is.
    """
    rest = logits.shape[1] - 1
    total = logits.logsumexp(1, keepdim=True)
    listed = logits.gather(1, classes) - total
    hide = torch.zeros_like(logits).scatter_(1, classes, -torch.inf)
    hide[:, rest] = 0.0
    others = (logits + hide).logsumexp(1, keepdim=True) - total
    return -(mass * torch.cat([listed, others], dim=1)).sum(1).mean()


def _loss(
    heads: DraftHeads, data: _Data, chosen: Tensor, targets: Literal["soft", "hard"], dtype: torch.dtype
) -> Tensor:
    """Sum over heads of their mean loss at the chosen positions."""
    losses = []
    for head in range(heads.config.n_heads):
        at = chosen[data.valid(chosen, head)]
        if not len(at):
            continue
        state = heads.state(head, data.hidden(at), data.embedded(at, head))
        logits = heads.logits(state.to(dtype)).float()
        predicts = at + 1 + head
        if targets == "soft":
            losses.append(cross_entropy(logits, data.classes[predicts].to(logits.device), data.mass(predicts)))
        else:
            losses.append(torch.nn.functional.cross_entropy(logits, data.next_classes[predicts].to(logits.device)))
    return torch.stack(losses).sum()


def _shown(measured: Accuracy) -> str:
    return "held-out top-1 " + " ".join(f"{value:.3f}" for value in measured.top1)


def _spread(positions: Tensor, most: int) -> Tensor:
    if len(positions) <= most:
        return positions
    return positions[torch.linspace(0, len(positions) - 1, most).round().to(torch.int64)]


def _continuations(features: Features, texts: Tensor) -> list[list[int]]:
    return [features.text(m)[int(features.prompt_lengths[m]) :].tolist() for m in texts.nonzero().flatten().tolist()]


class _Data:
    """Features as heads see them. Positions and classes are on the CPU, what is multiplied on the target's device."""

    def __init__(self, model: CachedModel, features: Features, trimmed: TrimmedVocabulary, n_heads: int) -> None:
        self._features = features
        self._device = model.info.device
        used = features.ids.unique()
        self._row_of = torch.zeros(trimmed.full_size, dtype=torch.int64)
        self._row_of[used] = torch.arange(len(used))
        self._table = normalised(model.embed(used.to(self._device)))
        self.classes = trimmed.classes(features.top_ids)
        self._kept = self.classes != trimmed.rest
        following = torch.cat([features.ids[1:], features.ids[:1]])
        self.next_classes = trimmed.classes(following)
        """Class of the token that came next; meaningless at a text's last position."""
        self._text = features.of_text()
        self._left = features.bounds[1:][self._text] - 1 - torch.arange(len(features.ids))
        """Tokens of the text after each position."""

    def positions(self, texts: Tensor) -> Tensor:
        """States that a draft can start from: those that predicted a generated token which another one follows."""
        index = torch.arange(len(self._features.ids))
        begun = index - self._features.bounds[:-1][self._text] >= self._features.prompt_lengths[self._text] - 1
        return index[begun & texts[self._text] & (self._left >= 2)]

    def valid(self, at: Tensor, head: int) -> Tensor:
        """Whether the token that the head should guess is in the text."""
        return self._left[at] >= head + 2

    def hidden(self, at: Tensor) -> Tensor:
        return self._features.hidden[at].to(self._device).float()

    def embedded(self, at: Tensor, head: int) -> Tensor:
        """[n, head + 1, H]: the pending token and those before the one that the head guesses."""
        ids = self._features.ids[at.unsqueeze(1) + 1 + torch.arange(head + 1)]
        return self._table[self._row_of[ids].to(self._device)]

    def mass(self, at: Tensor) -> Tensor:
        """[n, K + 1]: see `cross_entropy`."""
        listed = self._features.top_logprobs[at].exp() * self._kept[at]
        return torch.cat([listed, (1.0 - listed.sum(1, keepdim=True)).clamp_min(0.0)], dim=1).to(self._device)
