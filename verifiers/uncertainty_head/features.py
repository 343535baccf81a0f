"""What a model knew while a step was written, token by token, and how it becomes a head's input.

All figures of a token belong to the moment *before* it: the states and the distribution that it was drawn from. So
they are there as soon as the token is, and judging what was just generated takes no further pass; what the model
makes of the step's last token is nobody's input. (The same alignment as in arXiv 2505.08200, where the last position
is dropped.)

A step ends where its words end: tokens of nothing but white space at its end, and control tokens, do not count. A
step that a stop string ended, one that ended the answer, and one that was read from a file without its separator are
then the same step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from draftproof.drafting.drafters.vocab_trim import normalised
from draftproof.drafting.model import ModelInfo
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError
from draftproof.language_model import Completion

MAX_TOKENS = 512
"""Of a step, counted from its end: of longer ones the beginning is not looked at. The signal sits at step ends (arXiv
2511.06209), and attention within the step grows with the square."""

STATISTICS = 3
"""Log-probability of the token, entropy of its distribution, margin between the two largest logits."""


class NoInternalsError(Exception):
    """A step cannot be judged by internals; `reason` is what the verdict will say."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class FeatureSet:
    """Which internals a head looks at."""

    layers: tuple[int, ...] = ()
    """Layers whose states are taken: 0 is the embedding, l the output of layer l. Each state is scaled to mean square
    1, so that a few huge dimensions do not decide what is precise."""
    statistics: bool = True
    """Log-probability, entropy and margin of each token."""
    top: int = 0
    """The so many largest probabilities at each token (4 in arXiv 2505.08200)."""
    window: int = 0
    """Attention of every layer and head to the last so many tokens (5 in arXiv 2511.06209). It needs a pass with eager
    attention, which no backend generates with: a head with it reads."""

    def __post_init__(self) -> None:
        if any(isinstance(layer, bool) or not isinstance(layer, int) or layer < 0 for layer in self.layers):
            raise UsageError(f"Layers are whole numbers from 0, got {list(self.layers)}.")
        if len(set(self.layers)) != len(self.layers):
            raise UsageError(f"Each layer is named once, got {list(self.layers)}.")
        for name, value, most in (("top", self.top, 64), ("window", self.window, 64)):
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
                raise UsageError(f"{name} of a feature set lies in 0 … {most}, got {value!r}.")
        if not (self.layers or self.statistics or self.top or self.window):
            raise UsageError("A head needs something to look at: layers, statistics, top or window.")

    @property
    def online(self) -> bool:
        """Whether a generating backend tells all of it."""
        return not self.window

    def check(self, info: ModelInfo) -> None:
        """Raises UsageError for layers and tokens that the model does not have."""
        if self.layers and max(self.layers) > info.n_layers:
            raise UsageError(f"{info.name} has layers 0 … {info.n_layers}, and {list(self.layers)} were asked for.")
        if self.top > info.vocab_size:
            raise UsageError(f"{info.name} has {info.vocab_size} tokens, and the {self.top} likeliest were asked for.")


def default_layers(info: ModelInfo) -> tuple[int, ...]:
    """The layer two thirds up, where truth shows best, and the last, which speaks of the token that came."""
    return tuple(sorted({max(1, round(info.n_layers * 2 / 3)), info.n_layers}))


@dataclass(frozen=True)
class StepInternals:
    """Of the n tokens of a step."""

    logprobs: Tensor
    """[n] float32, nats, temperature 1."""
    entropies: Tensor
    """[n] float32, nats, of the whole vocabulary."""
    margins: Tensor
    """[n] float32: largest logit less the second."""
    hidden: Mapping[int, Tensor] = field(default_factory=dict)
    """Layer -> [n, H] float32."""
    top: Tensor | None = None
    """[n, K] float32: the K largest probabilities, the largest first."""
    attention: Tensor | None = None
    """[n, window · layers · heads] float32."""

    @property
    def tokens(self) -> int:
        return len(self.logprobs)

    def features(self, wanted: FeatureSet) -> Tensor:
        """[n, F] float32, of the last MAX_TOKENS tokens at most. Raises NoInternalsError where something is missing
        or not a number."""
        columns: list[Tensor] = []
        for layer in wanted.layers:
            if layer not in self.hidden:
                raise NoInternalsError("no_internals", f"the states of layer {layer} are missing")
            columns.append(normalised(self.hidden[layer]))
        if wanted.statistics:
            columns.append(torch.stack([self.logprobs, self.entropies, self.margins], dim=1))
        if wanted.top:
            if self.top is None or self.top.shape[1] != wanted.top:
                raise NoInternalsError("no_internals", f"the {wanted.top} largest probabilities are missing")
            columns.append(self.top)
        if wanted.window:
            if self.attention is None:
                raise NoInternalsError("no_internals", "attention is missing")
            columns.append(self.attention)
        joined = torch.cat([column.float() for column in columns], dim=1)[-MAX_TOKENS:]
        if not math.isfinite(float(joined.sum())):  # one of them is not; all are of the order of 1 to 100
            raise NoInternalsError("internals_not_finite")
        return joined

    def sliced(self, start: int, end: int) -> StepInternals:
        """Those of tokens `start` … `end - 1`."""
        return replace(
            self,
            logprobs=self.logprobs[start:end],
            entropies=self.entropies[start:end],
            margins=self.margins[start:end],
            hidden={layer: states[start:end] for layer, states in self.hidden.items()},
            top=None if self.top is None else self.top[start:end],
            attention=None if self.attention is None else self.attention[start:end],
        )

    @property
    def summary(self) -> dict[str, float]:
        """A few finite numbers for people, kept as a verdict's evidence."""
        return {
            "tokens": float(self.tokens),
            "mean_logprob": float(self.logprobs.mean()),
            "lowest_logprob": float(self.logprobs.min()),
            "mean_entropy": float(self.entropies.mean()),
            "highest_entropy": float(self.entropies.max()),
            "smallest_margin": float(self.margins.min()),
        }


def blank_ids(vocabulary: Vocabulary) -> frozenset[int]:
    """Ids that say nothing: of ASCII white space alone, of control tokens, and of no token at all."""
    found = set()
    for token in range(vocabulary.size):
        data = vocabulary.token_bytes(token)
        if data is None or not data.strip():
            found.add(token)
    return frozenset(found)


def spoken(ids: Sequence[int], blank: frozenset[int]) -> int:
    """How many tokens there are up to the last one that says something."""
    count = len(ids)
    while count and ids[count - 1] in blank:
        count -= 1
    return count


def of_completion(completion: Completion, layers: Sequence[int], blank: frozenset[int], top: int = 0) -> StepInternals:
    """The internals that came with a generated step. Raises NoInternalsError where they are incomplete.

    `top`: how many of the largest probabilities are looked at; more may have come.

    They are told for every kept token; `ids` are those of the text, to which a token that ended the answer does not
    belong.
    """
    kept = completion.tokens
    figures: dict[str, Sequence[float]] = {
        "logprobs": completion.logprobs,
        "entropies": completion.entropies,
        "margins": completion.margins,
    }
    for name, values in figures.items():
        if not kept or len(values) != kept:
            raise NoInternalsError("no_internals", f"{len(values)} {name} came for {kept} tokens")
    if not completion.ids or len(completion.ids) > kept:
        raise NoInternalsError("no_internals", "the text's own tokens are unknown")
    count = spoken(completion.ids, blank)
    if not count:
        raise NoInternalsError("empty_step")
    hidden = {}
    for layer in layers:
        states: Any = completion.hidden.get(layer)
        if states is None or states.dim() != 2 or len(states) != kept:
            raise NoInternalsError("no_internals", f"the states of layer {layer} did not come")
        hidden[layer] = states[:count].detach().float().cpu()
    if top and (len(completion.top) != kept or min(map(len, completion.top)) < top):
        raise NoInternalsError("no_internals", f"the {top} largest probabilities did not come")
    return StepInternals(
        logprobs=torch.tensor(completion.logprobs[:count]),
        entropies=torch.tensor(completion.entropies[:count]),
        margins=torch.tensor(completion.margins[:count]),
        hidden=hidden,
        top=torch.tensor([each[:top] for each in completion.top[:count]]) if top else None,
    )
