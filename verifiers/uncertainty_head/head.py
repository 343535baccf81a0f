"""The head: a small transformer over a step's tokens whose one logit says how wrong the step is.

Reasoning with Confidence (arXiv 2511.06209, section 3): linear projection, one transformer layer over the step's
tokens, pooling, a small perceptron. There the pool is the mean; here the last token stands beside it, because the
signal sits at step ends (the last token is the most important one in about 40 % of steps, ibid.) and a mean over n
tokens lets it count for 1/n. There are no positions: the states carry the base model's own.

A step sees its own tokens and, through the base model's states, what came before; never what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from draftproof.errors import UsageError

MOST_PARAMETERS = 10_000_000
"""A head is small beside its model (arXiv 2511.06209: below 10 M for a model of 8 B)."""


@dataclass(frozen=True)
class HeadConfig:
    """A head's shape."""

    features: int
    """F: figures a token."""
    width: int = 64
    layers: int = 1
    heads: int = 4
    """Attention heads of each layer."""
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("features", "width", "layers", "heads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} of an uncertainty head is a whole number of at least 1, got {value!r}.")
        if self.width % self.heads:
            raise UsageError(f"The width {self.width} is no multiple of the {self.heads} attention heads.")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"Dropout is a share below 1, got {self.dropout!r}.")
        if self.parameters > MOST_PARAMETERS:
            raise UsageError(
                f"An uncertainty head of {self.parameters:,} parameters was asked for; at most {MOST_PARAMETERS:,}.",
                remedy="Take fewer layers of the model, or a smaller --width.",
            )

    @property
    def parameters(self) -> int:
        """How many weights are trained, known before any is allocated."""
        d = self.width
        layer = 4 * d * d + 4 * d + 8 * d * d + 5 * d + 4 * d
        return (self.features + 1) * d + self.layers * layer + 2 * d + (2 * d * d + d) + (d + 1)

    @classmethod
    def default(cls, features: int, hidden_size: int) -> HeadConfig:
        """One layer; 64 wide for models below width 512, 128 below 2048, else 256."""
        width = 64 if hidden_size < 512 else 128 if hidden_size < 2048 else 256
        return cls(features, width, heads=width // 16)


class StepHead(nn.Module):
    """Features of steps to logits of *wrong*."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.register_buffer("mean", torch.zeros(config.features))
        self.register_buffer("std", torch.ones(config.features))
        self.project = nn.Linear(config.features, d)
        self.blocks = nn.ModuleList([Block(d, config.heads, config.dropout) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(d)
        self.first = nn.Linear(2 * d, d)
        self.drop = nn.Dropout(config.dropout)
        self.second = nn.Linear(d, 1)

    def normalise_by(self, mean: Tensor, std: Tensor) -> None:
        """Take mean and standard deviation [F] of the training tokens; a constant feature is left unscaled."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    def forward(self, features: Tensor, real: Tensor | None = None) -> Tensor:
        """Logits [B] of steps [B, N, F]; `real` [B, N] bool marks tokens, from the left, at least one each. None: all
        are, which takes a third less time for a single step."""
        seen = self.project((features - self.mean) / self.std)
        allowed = None if real is None else visible(real)
        for block in self.blocks:
            seen = block(seen, allowed)
        seen = self.norm(seen)
        pooled = self.drop(gelu(self.first(torch.cat(_pooled(seen, real), dim=-1))))
        return cast(Tensor, self.second(pooled)).squeeze(-1)


def _pooled(seen: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean of a step's tokens, and its last one: [B, d] each."""
    if real is None:
        return seen.mean(1), seen[:, -1]
    counts = real.sum(1)
    mean = torch.where(real.unsqueeze(-1), seen, 0.0).sum(1) / counts.unsqueeze(-1)
    return mean, seen[torch.arange(len(seen), device=seen.device), counts - 1]


def visible(real: Tensor) -> Tensor:
    """[B, 1, 1, N] bool: which tokens may be looked at. All of the step, none of the padding.

    To see less, AND: in a mask that says what may be *seen*, restrictions are intersections. (A mask that says what is
    *hidden* grows by OR; a published head mixes the two up, and lets padding in.)
    """
    return real[:, None, None, :]


class Block(nn.Module):
    """A transformer layer, norms first."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, seen: Tensor, allowed: Tensor | None) -> Tensor:
        """[B, N, d] to the same; `allowed` broadcasts to [B, heads, N, N], and None allows all."""
        batch, length, width = seen.shape
        joined = self.queries_keys_values(self.attention_norm(seen))
        shaped = joined.view(batch, length, 3, self._heads, width // self._heads).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(shaped[0], shaped[1], shaped[2], attn_mask=allowed)
        seen = seen + self.drop(self.out(attended.transpose(1, 2).reshape(batch, length, width)))
        return cast(Tensor, seen + self.drop(self.down(gelu(self.up(self.feed_norm(seen))))))


def padded(steps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Steps [n_i, F] as one batch: features [B, N, F] float32 with zeros behind, and `real` [B, N]."""
    lengths = torch.tensor([len(step) for step in steps])
    features = nn.utils.rnn.pad_sequence([step.float() for step in steps], batch_first=True)
    return features, torch.arange(features.shape[1]) < lengths.unsqueeze(1)


@torch.inference_mode()
def logits_of(head: StepHead, steps: Sequence[Tensor], batch: int = 128) -> Tensor:
    """Logits [M] of steps [n_i, F], in order. Steps of like length share a batch, so that little is padding."""
    if len(steps) == 1:
        return cast(Tensor, head(steps[0].float().unsqueeze(0)))
    logits = torch.empty(len(steps))
    order = sorted(range(len(steps)), key=lambda index: len(steps[index]))
    for begin in range(0, len(order), batch):
        chosen = order[begin : begin + batch]
        logits[chosen] = head(*padded([steps[index] for index in chosen]))
    return logits
