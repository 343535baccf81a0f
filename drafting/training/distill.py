"""Training of a small draft model to agree with the target, so that more of its tokens are accepted.

Zhou et al., arXiv 2310.08461 (DistillSpec): minimise a divergence between the two next-token distributions, on text
that the target wrote and, for a share of the steps, on text that the draft model itself writes, which shows it the
places that its own mistakes lead to. Distributions are compared on the target's most probable tokens and one outcome
for all others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from draftproof.drafting.drafters.vocab_trim import output_rows
from draftproof.drafting.model import CachedModel, ModelInfo, RowTokens, Wanted
from draftproof.drafting.models.quiet import no_progress_bars
from draftproof.drafting.training.divergences import Divergence, acceptance, divergence, on_outcomes, with_rest
from draftproof.drafting.training.features import TOP, Features
from draftproof.drafting.training.heads import held_out_texts
from draftproof.drafting.training.optimisation import Optimisation, check_learning_rate, shuffled
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import UsageError


def small_draft_config(
    target: ModelInfo, *, layers: int = 2, hidden: int = 192, head_size: int = 64, context: int | None = None
) -> LlamaConfig:
    """A small Llama with the target's vocabulary and ends of text (FastDraft, arXiv 2411.11055, section 3.1)."""
    if layers < 1 or hidden < 1 or hidden % head_size or head_size % 2:
        raise UsageError(f"A draft model of {layers} layers and width {hidden} cannot have heads of {head_size}.")
    ends = sorted(target.eos_ids)
    return LlamaConfig(
        vocab_size=target.vocab_size,
        hidden_size=hidden,
        intermediate_size=math.ceil(8 * hidden / 3 / 64) * 64,
        num_hidden_layers=layers,
        num_attention_heads=hidden // head_size,
        num_key_value_heads=hidden // head_size,
        max_position_embeddings=context or target.context_length,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ends[0] if len(ends) == 1 else (ends or None),
        pad_token_id=None,
        dtype="float32",
    )


def small_draft_model(target: CachedModel, config: LlamaConfig, *, seed: int = 0) -> LlamaForCausalLM:
    """A new draft model whose tied embeddings begin as the target's output rows on their principal axes.

    What tokens have in common is the dearest thing to learn from little text, and the target knows it already.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    rows, _ = output_rows(target, torch.arange(target.info.vocab_size))
    centred = rows - rows.mean(0)
    _, axes = torch.linalg.eigh((centred.T @ centred).double())
    projected = centred @ axes[:, -config.hidden_size :].flip(1).float()
    with torch.no_grad():
        table = cast(Tensor, model.get_input_embeddings().weight)
        table[:, : projected.shape[1]].copy_(projected * (config.initializer_range / projected.std()))
    return model


@dataclass(frozen=True)
class Distillation:
    """How a draft model is trained."""

    divergence: Divergence = "fkl"
    on_policy: float = 0.2
    """Share of the steps, evenly spread over the second half of training, on the draft model's own text."""
    on_policy_divergence: Divergence = "tvd"
    epochs: int = 3
    batch: int = 8
    """Pieces of text a step."""
    piece: int = 128
    """Tokens of a piece."""
    learning_rate: float = 1e-3
    temperature: float = 1.0
    """At which the draft model writes its own text."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.on_policy <= 0.5:
            raise UsageError(f"on_policy is {self.on_policy}, it must lie in 0 … 0.5, a share of all steps.")
        if min(self.epochs, self.batch) < 1 or self.piece < 2:
            raise UsageError("epochs and batch must be at least 1, piece at least 2.")
        check_learning_rate(self.learning_rate)


@dataclass(frozen=True)
class DistillResult:
    model: PreTrainedModel
    acceptance: tuple[float, ...]
    """Σ min(p, q) on held-out text: before training, and after each epoch."""


def distill(
    draft: PreTrainedModel,
    target: CachedModel,
    features: Features,
    distillation: Distillation = Distillation(),
    *,
    data_digest: str = "",
    checkpoint: Path | None = None,
    report: Report = silent,
) -> DistillResult:
    """Train a copy of `draft` on the target's text and its cached distributions; `draft` itself is not changed."""
    if draft.config.vocab_size != target.info.vocab_size:
        raise UsageError(
            f"The draft model has {draft.config.vocab_size} tokens, the target {target.info.vocab_size}.",
            remedy="Use small_draft_config(target.info), which takes over the vocabulary.",
        )
    student = copy.deepcopy(draft).float().requires_grad_(True)
    held_out = held_out_texts(features)
    train = _pieces(features, ~held_out, distillation.piece)
    held = _pieces(features, held_out, distillation.piece)
    each_epoch = -(-len(train) // distillation.batch)
    steps = distillation.epochs * each_epoch
    optimisation = Optimisation(
        dict(student.named_parameters()),
        steps=steps,
        learning_rate=distillation.learning_rate,
        settings=asdict(distillation) | {"target": target.info.digest, "data": data_digest, "pieces": len(train)},
        file=checkpoint,
    )
    measured = [_held_out_acceptance(draft, features, held)]
    while not optimisation.finished:
        step = optimisation.done
        chosen = [train[i] for i in shuffled(len(train), distillation.batch, step, distillation.seed).tolist()]
        student.train()
        if _is_on_policy(step, steps, distillation.on_policy):
            loss = _on_policy_loss(student, target, features, chosen, distillation, step)
        else:
            loss = _text_loss(student, features, chosen, distillation.divergence)
        optimisation.step(loss)
        detail = f"loss {float(loss.detach()):.3f}, accepted {measured[-1]:.3f}"
        report("distilling", optimisation.done, steps, detail)
        if optimisation.done % each_epoch == 0:
            measured.append(_held_out_acceptance(student, features, held))
    if len(measured) == 1:
        measured.append(_held_out_acceptance(student, features, held))
    return DistillResult(student.eval().requires_grad_(False), tuple(measured))


def save_draft(folder: Path, model: PreTrainedModel, tokenizer: Any | None = None) -> None:
    """An ordinary Hugging Face folder, which the drafter `small-lm` and any other tool can load."""
    folder.mkdir(parents=True, exist_ok=True)
    with no_progress_bars():
        model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _is_on_policy(step: int, steps: int, share: float) -> bool:
    """Evenly spread over the second half: before, a draft model's own text is noise."""
    half = steps // 2
    if share == 0.0 or step < half:
        return False
    rate = min(1.0, share * steps / max(1, steps - half))
    return math.floor((step - half + 1) * rate) > math.floor((step - half) * rate)


def _pieces(features: Features, texts: Tensor, length: int) -> list[tuple[int, int, int]]:
    """(first position, positions, prompt positions among them) of pieces of the texts [M] bool, with something of the
    continuation in each."""
    pieces = []
    for m in texts.nonzero().flatten().tolist():
        begin, end = int(features.bounds[m]), int(features.bounds[m + 1])
        generated = begin + int(features.prompt_lengths[m])
        for at in range(begin, end - 1, length):
            size = min(length, end - at)
            if at + size > generated:
                pieces.append((at, size, max(0, generated - at)))
    if not pieces:
        raise UsageError("The texts are too short to distil on.")
    return pieces


def _text_loss(
    student: PreTrainedModel, features: Features, pieces: Sequence[tuple[int, int, int]], kind: Divergence
) -> Tensor:
    target, draft = _both(student, features, pieces)
    return divergence(kind, target, draft).mean()


def _both(
    student: PreTrainedModel, features: Features, pieces: Sequence[tuple[int, int, int]]
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [n, TOP + 1] of target and draft at the places of the pieces that predict generated tokens."""
    logits = _logits(student, [features.ids[at : at + size] for at, size, _ in pieces])
    kept = [torch.arange(at + max(0, prompt - 1), at + size) for at, size, prompt in pieces]
    rows = torch.cat([row[max(0, prompt - 1) : size] for row, (_, size, prompt) in zip(logits, pieces, strict=True)])
    where = torch.cat(kept)
    return with_rest(features.top_logprobs[where]), on_outcomes(rows, features.top_ids[where])


def _logits(student: PreTrainedModel, texts: Sequence[Tensor]) -> Tensor:
    """[B, longest, V]; texts are padded on the right, which a causal model does not see."""
    ids = torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
    return cast(Tensor, student(input_ids=ids.to(student.device), use_cache=False).logits).float().cpu()


def _on_policy_loss(
    student: PreTrainedModel,
    target: CachedModel,
    features: Features,
    pieces: Sequence[tuple[int, int, int]],
    distillation: Distillation,
    step: int,
) -> Tensor:
    """The draft model goes on from the first half of each piece, and is held against the target on what it wrote."""
    random = torch.Generator().manual_seed(distillation.seed * 1_000_003 + step)
    starts = [features.ids[at : at + max(1, size // 2)] for at, size, _ in pieces]
    written = _written(student, starts, [size - max(1, size // 2) for _, size, _ in pieces], distillation, random)
    logits = _logits(student, written)
    losses = []
    for row, (text, start) in enumerate(zip(written, starts, strict=True)):
        best = target_outcomes(target, text)
        first = len(start) - 1
        draft = on_outcomes(logits[row, first : len(text)], best.indices[first:])
        losses.append(divergence(distillation.on_policy_divergence, with_rest(best.values[first:]), draft))
    return torch.cat(losses).mean()


def _written(
    student: PreTrainedModel,
    starts: Sequence[Tensor],
    lengths: Sequence[int],
    distillation: Distillation,
    random: torch.Generator,
) -> list[Tensor]:
    """Each start with so many tokens drawn from the draft model."""
    texts = [start.clone() for start in starts]
    student.eval()
    with torch.inference_mode():
        for made in range(max(lengths)):
            longer = [i for i, length in enumerate(lengths) if made < length]
            logits = _logits(student, [texts[i] for i in longer])
            for place, i in enumerate(longer):
                mass = torch.softmax(logits[place, len(texts[i]) - 1] / distillation.temperature, dim=-1)
                texts[i] = torch.cat([texts[i], torch.multinomial(mass, 1, generator=random)])
    student.train()
    return [text.clone() for text in texts]  # out of inference mode


def target_outcomes(target: CachedModel, ids: Tensor) -> torch.return_types.topk:
    """The target's TOP most probable next tokens, [n, TOP] log-probabilities and ids, at each place of a text."""
    row = 0
    target.add_row(row)
    try:
        result = target.forward([RowTokens(row, ids)], Wanted())
    finally:
        target.drop_row(row)
    assert result.logits is not None
    logprobs = torch.log_softmax(result.logits.float().cpu(), dim=-1)
    return logprobs.topk(min(TOP, target.info.vocab_size - 1), dim=-1)


def _held_out_acceptance(
    student: PreTrainedModel, features: Features, pieces: Sequence[tuple[int, int, int]], most: int = 64
) -> float:
    """Mean Σ min(p, q) over the held-out pieces, on the stored outcomes: an upper bound, exact but for the rest."""
    student.eval()
    values = []
    with torch.inference_mode():
        for begin in range(0, min(len(pieces), most), 8):
            target, draft = _both(student, features, pieces[begin : begin + 8])
            values.append(acceptance(target, draft))
    return float(torch.cat(values).mean())
