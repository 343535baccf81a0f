"""The head that predicts whether a drafted token will be accepted, which SpecDec++ stops drafting by.

Huang et al., arXiv 2405.19715, sections 3 and 4: on the draft model's last hidden state after consuming a token,
trained with the probability min(1, p/q) that the token is accepted as soft label, a rejection weighing six times.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from draftproof.drafting.drafters.vocab_trim import normalised
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.training.optimisation import Optimisation, shuffled
from draftproof.drafting.training.progress import Report, silent
from draftproof.drafting.training.self_text import SelfText
from draftproof.errors import DraftproofError, InputError, UsageError

FORMAT = "draftproof-acceptance-head-1"
WEIGHTS_FILE = "acceptance_head.safetensors"
CONFIG_FILE = "acceptance_head.json"


class AcceptanceHead(nn.Module):
    """Residual SiLU blocks and one logit, on states scaled to mean square 1."""

    def __init__(self, hidden_size: int, *, n_layers: int = 3, shared: bool = False) -> None:
        """`shared`: all blocks are one and the same, as in the authors' published code."""
        super().__init__()
        if hidden_size < 1 or not 1 <= n_layers <= 32:
            raise UsageError(
                f"An acceptance head has 1 … 32 layers of width 1 or more, not {n_layers} of {hidden_size}."
            )
        self.hidden_size = hidden_size
        self.n_layers = n_layers
        self.shared = shared
        self.blocks = nn.ModuleList([nn.Linear(hidden_size, hidden_size) for _ in range(1 if shared else n_layers)])
        for block in self.blocks:
            nn.init.zeros_(cast(nn.Linear, block).weight)
            nn.init.zeros_(cast(nn.Linear, block).bias)
        self.score = nn.Linear(hidden_size, 1)

    def forward(self, states: Tensor) -> Tensor:
        """Logits [n] of acceptance for states [n, H]."""
        seen = normalised(states)
        for layer in range(self.n_layers):
            seen = seen + nn.functional.silu(self.blocks[0 if self.shared else layer](seen))
        return cast(Tensor, self.score(seen)).squeeze(-1)

    def probability(self, state: Tensor) -> float:
        """That the token consumed last is accepted: from the state [H] after it."""
        with torch.inference_mode():
            return float(torch.sigmoid(self(state.to(self.score.weight.device).unsqueeze(0)))[0])


@dataclass(frozen=True)
class AcceptanceExamples:
    """States of the draft model and what became of the tokens that it had just consumed."""

    states: Tensor
    """[n, H_d] float32."""
    accepted: Tensor
    """[n] float32: min(1, p/q) of the token."""


@dataclass(frozen=True)
class AcceptanceTraining:
    n_layers: int = 3
    shared: bool = False
    epochs: int = 3
    batch: int = 256
    learning_rate: float = 1e-3
    rejection_weight: float = 6.0
    """Weight of the rejected share of an example; that of the accepted share is 1."""
    mixing: float = 0.15
    """Share of target tokens in the text that the draft model consumes."""
    temperature: float = 1.0
    """At which draft and target are compared."""
    seed: int = 0


def collect(
    draft: CachedModel,
    target: CachedModel,
    texts: Sequence[SelfText],
    training: AcceptanceTraining = AcceptanceTraining(),
    *,
    report: Report = silent,
) -> AcceptanceExamples:
    """Examples from the target's continuations: at each place the draft model draws a token after the true prefix; it
    then consumes a text in which some of the drawn tokens are replaced by the target's, and each state after a drawn
    token is an example."""
    check_comparable(draft, target)
    if not training.temperature > 0.0 or not 0.0 <= training.mixing < 1.0:
        raise UsageError("The temperature must be above 0, and the share of target tokens in 0 … 1.")
    states, labels = [], []
    for number, text in enumerate(texts):
        ids = torch.tensor(text.ids)
        random = torch.Generator().manual_seed(training.seed * 1_000_003 + text.job)
        q = torch.softmax(_pass(draft, ids[:-1])[0] / training.temperature, dim=-1)
        p = torch.softmax(_pass(target, ids[:-1])[0] / training.temperature, dim=-1)
        drawn = torch.multinomial(q, 1, generator=random).squeeze(1)  # [n-1] the draft's token in place 1, 2, …
        place = drawn.unsqueeze(1)
        ratio = (p.gather(1, place) / q.gather(1, place).clamp_min(1e-20)).clamp_max(1.0).squeeze(1)
        is_drawn = torch.rand(len(drawn), generator=random) >= training.mixing
        is_drawn[: text.prompt_length - 1] = False  # the prompt is nobody's draft
        mixed = torch.cat([ids[:1], torch.where(is_drawn, drawn, ids[1:])])
        consumed = _pass(draft, mixed)[1]
        states.append(consumed[1:][is_drawn])
        labels.append(ratio[is_drawn])
        report("collecting", number + 1, len(texts), "")
    if not states or not sum(len(each) for each in labels):
        raise UsageError("The texts are too short to learn acceptance from: nothing follows their prompts.")
    return AcceptanceExamples(torch.cat(states).float(), torch.cat(labels).float())


def check_comparable(draft: CachedModel, target: CachedModel) -> None:
    """Raises UsageError for a draft model with another number of tokens than the target has."""
    if draft.info.vocab_size != target.info.vocab_size:
        raise UsageError(
            f"The draft model has {draft.info.vocab_size} tokens and the target {target.info.vocab_size}: an "
            "acceptance head compares their probabilities token by token.",
            remedy="Use a draft model with the target's vocabulary.",
        )


def _pass(model: CachedModel, ids: Tensor, chunk: int = 256) -> tuple[Tensor, Tensor]:
    """Logits [n, V] and last layer's states [n, H] of a text, float32 on the CPU."""
    layer, row = model.info.n_layers, 0
    logits, states = [], []
    model.add_row(row)
    try:
        for begin in range(0, len(ids), chunk):
            piece = ids[begin : begin + chunk]
            result = model.forward([RowTokens(row, piece)], Wanted(taps=(layer,)))
            model.commit(row, range(len(piece)))
            assert result.logits is not None
            logits.append(result.logits.float().cpu())
            states.append(result.hidden[layer].float().cpu())
    finally:
        model.drop_row(row)
    return torch.cat(logits), torch.cat(states)


def weighted_loss(logits: Tensor, accepted: Tensor, rejection_weight: float) -> Tensor:
    """Mean weighted binary cross-entropy to soft labels (arXiv 2405.19715, equation 4.1).

    A weight other than 1 bends the probabilities: at the optimum the odds of acceptance are divided by it. The
    threshold of the policy is chosen on top of that.
    """
    return -(
        accepted * nn.functional.logsigmoid(logits)
        + rejection_weight * (1.0 - accepted) * nn.functional.logsigmoid(-logits)
    ).mean()


def train_acceptance_head(
    examples: AcceptanceExamples,
    training: AcceptanceTraining = AcceptanceTraining(),
    *,
    data_digest: str = "",
    checkpoint: Path | None = None,
    report: Report = silent,
) -> tuple[AcceptanceHead, dict[str, float]]:
    """A head, and its figures on the last tenth of the examples, which it was not trained on."""
    count = len(examples.accepted)
    cut = max(1, count - max(1, count // 10))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        head = AcceptanceHead(examples.states.shape[1], n_layers=training.n_layers, shared=training.shared)
    with torch.no_grad():  # it begins as the constant that it must beat, so that little text is enough to do so
        head.score.weight.zero_()
        head.score.bias.copy_(_constant(examples.accepted[:cut], training.rejection_weight))
    each_epoch = -(-cut // training.batch)
    optimisation = Optimisation(
        dict(head.named_parameters()),
        steps=training.epochs * each_epoch,
        learning_rate=training.learning_rate,
        settings=asdict(training) | {"data": data_digest, "examples": count},
        file=checkpoint,
        warmup=0.03,
    )
    while not optimisation.finished:
        chosen = shuffled(cut, training.batch, optimisation.done, training.seed)
        loss = weighted_loss(head(examples.states[chosen]), examples.accepted[chosen], training.rejection_weight)
        optimisation.step(loss)
        report("training", optimisation.done, training.epochs * each_epoch, f"loss {float(loss.detach()):.3f}")
    head.eval().requires_grad_(False)
    held_states, held = examples.states[cut:], examples.accepted[cut:]
    logits = head(held_states)
    constant = weighted_loss(
        _constant(examples.accepted[:cut], training.rejection_weight).expand(len(held)), held, training.rejection_weight
    )
    return head, {
        "examples": float(count),
        "mean_acceptance": float(held.mean()),
        "held_out_loss": float(weighted_loss(logits, held, training.rejection_weight)),
        "held_out_loss_of_a_constant": float(constant),
    }


def _constant(accepted: Tensor, rejection_weight: float) -> Tensor:
    """The one logit that fits all examples best: what a head must beat."""
    rate = accepted.mean().clamp(1e-6, 1 - 1e-6)
    return torch.log(rate / ((1.0 - rate) * rejection_weight))


def save_acceptance_head(
    folder: Path, head: AcceptanceHead, *, draft_digest: str, target_digest: str, figures: dict[str, float]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{WEIGHTS_FILE}.partial"
    save_file({name: value.contiguous() for name, value in head.state_dict().items()}, partial)
    partial.replace(folder / WEIGHTS_FILE)
    described = {
        "format": FORMAT,
        "hidden_size": head.hidden_size,
        "n_layers": head.n_layers,
        "shared": head.shared,
        "draft_digest": draft_digest,
        "target_digest": target_digest,
        "figures": figures,
    }
    (folder / CONFIG_FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def load_acceptance_head(folder: Path, *, draft_digest: str | None = None) -> tuple[AcceptanceHead, dict[str, Any]]:
    """A head and what is known of it. Raises UsageError for one of another draft model than `draft_digest`."""
    config = folder / CONFIG_FILE
    if not config.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise UsageError(
            f"{folder} holds no acceptance head: {CONFIG_FILE} and {WEIGHTS_FILE} are expected in it.",
            remedy="Train one with draftproof train acceptance-head.",
        )
    try:
        described = dict(json.loads(config.read_text(encoding="utf-8")))
        if described["format"] != FORMAT:
            raise InputError(f"{config} has the format {described['format']!r}; this version reads {FORMAT!r}.")
        tensors = load_file(folder / WEIGHTS_FILE)
        width = tensors["score.weight"].shape[1]
        if described["hidden_size"] != width:
            raise InputError(f"{config} says width {described['hidden_size']}, and the weights have {width}.")
        head = AcceptanceHead(width, n_layers=int(described["n_layers"]), shared=bool(described["shared"]))
        head.load_state_dict(tensors)
    except (KeyError, TypeError, IndexError, ValueError, SafetensorError, RuntimeError) as error:
        if isinstance(error, DraftproofError):
            raise
        raise InputError(f"The acceptance head in {folder} cannot be read: {error}") from error
    if draft_digest is not None and described["draft_digest"] != draft_digest:
        raise UsageError(
            f"The acceptance head in {folder} was trained for another draft model "
            f"({str(described['draft_digest'])[:19]}), not for this one ({draft_digest[:19]}).",
            remedy="Train one for this draft model with draftproof train acceptance-head.",
        )
    return head.eval().requires_grad_(False), described
