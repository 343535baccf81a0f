"""What a session knows of a row, and what a round gives back for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from draftproof.drafting.checks import check_prompt
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import ModelInfo
from draftproof.drafting.rounds import RowRound
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import UsageError


@dataclass(frozen=True)
class Opening:
    """How a row begins."""

    prompt: Sequence[int]
    sampling: Sampling = GREEDY
    max_new_tokens: int | None = None
    """None: the context is the only limit."""
    stop_ids: frozenset[int] | None = None
    """None: the model's end-of-sequence ids."""
    logprobs: int | None = None
    basis: bool = False
    """Outcomes carry the logits that their tokens were decided from."""
    hidden_layers: tuple[int, ...] = ()
    """With `basis`, the hidden states of these layers as well: 0 is the embedding, l the output of layer l, -1 that of
    the last one before the final norm."""


@dataclass(frozen=True)
class Reading:
    """A text that a row is to hold, and from where on its hidden states are wanted."""

    tokens: Sequence[int]
    begin: int
    """The first token whose prediction is wanted: 1 … len(tokens) - 1."""
    layers: tuple[int, ...]
    """Numbered as those of `Opening`."""


@dataclass(frozen=True)
class Basis:
    """What n tokens were decided from."""

    logits: Tensor
    """[n, V], raw."""
    hidden: Mapping[int, Tensor] = field(default_factory=dict)
    """Layer, as it was asked for -> [n, H]."""

    def copied(self) -> Basis:
        """On its own: a slice of a pass keeps all of it in memory."""
        return Basis(self.logits.clone(), {layer: states.clone() for layer, states in self.hidden.items()})


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
    basis: bool = False
    hidden_layers: tuple[int, ...] = ()
    after_prompt: Basis | None = None
    """What the token behind the prompt was decided from, [1, V], where `basis` is asked for: with it, the row can begin
    anew behind the same prompt without a pass."""

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
    basis: Basis | None = None
    """Where the row was opened with `basis`."""
    cached: int = 0
    """At prefill, tokens of the prompt that were not read again."""


@dataclass(frozen=True)
class ReadOutcome:
    """How a row's given text was predicted."""

    row: int
    hidden: Mapping[int, Tensor]
    """Layer, as it was asked for -> [n, H]: the states from which the tokens from `Reading.begin` on are predicted."""
    cached: int
    """Tokens that were not read again."""


def common_length(text: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two lists of ids have in common from the beginning."""
    low, high = 0, min(len(text), len(other))
    if text[:high] == other[:high]:
        return high
    while high - low > 1:  # the first `low` are alike, the first `high` are not
        middle = (low + high) // 2
        if text[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


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


def opened_state(opening: Opening, target: ModelInfo) -> RowState:
    """A row before its prompt is read. Raises UsageError or ContextLengthError for what cannot be opened."""
    check_prompt(opening.prompt, target)
    if opening.logprobs is not None and not 0 <= opening.logprobs <= target.vocab_size:
        raise UsageError(f"logprobs is {opening.logprobs}; expected 0 … {target.vocab_size} alternatives.")
    for layer in opening.hidden_layers:
        tap_of(layer, target)
    prompt, size = list(opening.prompt), len(opening.prompt)
    room = target.context_length - size
    return RowState(
        sampling=opening.sampling,
        rng=KeyedRng(opening.sampling.seed),
        tokens=prompt,
        prompt_length=size,
        stop_ids=target.eos_ids if opening.stop_ids is None else opening.stop_ids,
        limit=size + (room if opening.max_new_tokens is None else min(room, opening.max_new_tokens)),
        logprobs=opening.logprobs,
        basis=opening.basis,
        hidden_layers=opening.hidden_layers,
    )


def given_state(reading: Reading, target: ModelInfo) -> RowState:
    """A row that holds a given text, and is done. Raises as `opened_state` does."""
    tokens, size = list(reading.tokens), len(reading.tokens)
    if not 0 < reading.begin < size:
        raise UsageError(f"A text of {size} tokens is to be read from {reading.begin} on; expected 1 … {size - 1}.")
    check_prompt(tokens[:-1], target)
    check_prompt(tokens[-1:], target)
    for layer in reading.layers:
        tap_of(layer, target)
    return RowState(GREEDY, KeyedRng(0), tokens, size, stop_ids=frozenset(), limit=size, done=True)


def tap_of(layer: int, target: ModelInfo) -> int:
    """The number that passes know a layer by: -1 is the last one. Raises UsageError for one that is not there."""
    if not -1 <= layer <= target.n_layers:
        raise UsageError(
            f"There is no layer {layer}; {target.name} has 0 (the embedding) … {target.n_layers}, and -1, the last."
        )
    return target.n_layers if layer == -1 else layer
