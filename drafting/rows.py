"""What a session knows of a row, and what a round gives back for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.rounds import RowRound
from draftproof.drafting.sampling import Sampling


@dataclass
class RowState:
    """What one row has committed."""

    sampling: Sampling
    rng: KeyedRng
    tokens: list[int]
    """Prompt and output, the pending token included."""
    prompt_length: int
    stop_ids: frozenset[int]
    limit: int
    """Most tokens the row may come to, prompt included."""
    logprobs: int | None = None
    """How many top alternatives are reported for each token; None reports nothing."""
    rounds: int = 0
    done: bool = False
    """A stop token was emitted or the limit reached."""

    @property
    def output(self) -> list[int]:
        return self.tokens[self.prompt_length :]


@dataclass(frozen=True)
class TokenLogprob:
    """The target's raw log-softmax at a position: temperature 1, nothing cut, whatever is sampled with."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class RowOutcome:
    """What a round, or prefill, gave a row."""

    row: int
    tokens: tuple[int, ...]
    """Newly committed tokens."""
    done: bool
    record: RowRound | None
    """None at prefill."""
    logprobs: tuple[TokenLogprob, ...] = ()


def logprobs_of(logits: Tensor, tokens: tuple[int, ...], top: int | None) -> tuple[TokenLogprob, ...]:
    """Log-probabilities of `tokens`, one for each row of `logits` [n, V], with the `top` best alternatives."""
    if top is None:
        return ()
    reported = []
    for row, token in zip(torch.log_softmax(logits.to(torch.float32), dim=-1), tokens, strict=True):
        values, ids = row.topk(top)
        best = tuple(zip(ids.tolist(), values.tolist(), strict=True))
        reported.append(TokenLogprob(token, float(row[token]), best))
    return tuple(reported)
