"""What step- and document-level methods ask of a language model, whatever runs it.

A request is text in and text out, and holds all there is to know: a model keeps no conversation. Backends find again
by themselves what they have read before (prefix caches), so that asking statelessly costs no second reading, and a
step that was rejected is forgotten by not being named any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from draftproof.errors import UsageError


class Ability(StrEnum):
    """What not every backend can do. A method names what it needs, and refuses a model that lacks it."""

    FIRST_TOKEN = "first_token"  # noqa: S105 - a name, not a secret
    """The distribution of the next token."""
    LOGPROBS = "logprobs"
    """Log-probabilities of the tokens that were generated."""
    SCORE = "score"
    """Log-probabilities of a given continuation."""
    HIDDEN = "hidden"
    """Hidden states of chosen layers at generated tokens."""


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Piece:
    """A stretch of the answer so far, verbatim: most often a step with the separator behind it."""

    text: str
    writer: str = ""
    """`LanguageModel.identity` of the model that wrote it; empty for text from elsewhere."""
    ids: tuple[int, ...] = ()
    """The writer's own token ids of exactly this text, where they are known. Another reading of the same text may cut
    it into other tokens: a model goes on from its own pieces by these ids, so that writing step by step is the same as
    writing at once."""


@dataclass(frozen=True)
class Context:
    """A question, and what was written so far of the answer, which goes on where it ends."""

    messages: tuple[Message, ...]
    written: tuple[Piece, ...] = ()

    @classmethod
    def of(cls, problem: str, written: Sequence[Piece] = ()) -> Context:
        """A single question of a user."""
        return cls((Message("user", problem),), tuple(written))

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(piece.text for piece in self.written)


@dataclass(frozen=True)
class Decoding:
    """How tokens are drawn."""

    temperature: float = 0.0
    """0 takes the most probable token."""
    top_k: int = 0
    """0 is off."""
    top_p: float = 1.0
    seed: int = 0


GREEDY = Decoding()


@dataclass(frozen=True)
class Request:
    """One text that is wanted."""

    context: Context
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    """Generation ends behind the first of these."""
    decoding: Decoding = GREEDY
    hidden_layers: tuple[int, ...] = ()
    """Layers whose hidden states are wanted: 0 is the embedding, l the output of layer l, -1 that of the last."""
    top: int = 0
    """How many of the largest probabilities are wanted at each token. Local models tell them."""


class StopCause(StrEnum):
    STOP = "stop"
    """A stop string; the text ends with it."""
    END = "end"
    """The model ended its answer."""
    LENGTH = "length"
    """`max_new_tokens` are spent."""
    CONTEXT = "context"
    """The model's context is full."""


@dataclass(frozen=True)
class Completion:
    """What a model wrote."""

    text: str
    """Verbatim, with the stop string that ended it and without control tokens."""
    cause: StopCause
    stopped_by: str = ""
    """The stop string."""
    tokens: int = 0
    """How many were generated and kept, a token that ended the answer included."""
    ids: tuple[int, ...] = ()
    """Of exactly `text`; empty where they are unknown, or where a token reaches beyond the text."""
    logprobs: tuple[float, ...] = ()
    """Of the kept tokens, in nats, under the unprocessed distribution (temperature 1); empty where the backend tells
    none."""
    entropies: tuple[float, ...] = ()
    """Of the distributions that the kept tokens were drawn from, unprocessed, in nats; empty where unknown."""
    margins: tuple[float, ...] = ()
    """Largest logit less the second largest, unprocessed, of the same; empty where unknown."""
    top: tuple[tuple[float, ...], ...] = ()
    """Of the same, the so many largest probabilities that were asked for, the largest first; empty where none were, or
    where they are unknown."""
    prompt_tokens: int = 0
    """Tokens of the context."""
    cached_tokens: int = 0
    """How many of those had been read before, and were not read again."""
    seconds: float = 0.0
    """From the request to the answer."""
    hidden: Mapping[int, Any] = field(default_factory=dict)
    """Layer, as it was asked for -> [tokens, H] float32 tensor: the states from which each kept token was predicted."""


@dataclass(frozen=True)
class FirstToken:
    """The distribution of the next token, at temperature 1 and without filters."""

    entropy: float
    """In nats: of the whole vocabulary where `of` is 0, else of the `of` most probable tokens, renormalised."""
    of: int
    """How many tokens the entropy is computed from; 0 for all of them."""
    top: tuple[tuple[str, float], ...]
    """The most probable tokens as text, each with its probability (not renormalised), the most probable first."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Scored:
    """How probable a model finds a given continuation."""

    logprobs: tuple[float, ...]
    """One for each of its tokens, in nats, temperature 1."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0


@runtime_checkable
class LanguageModel(Protocol):
    """A model that is asked in batches; answers come in the order of the questions.

    Several threads may ask at once, and a backend may serve them together. Raises ContextLengthError for a context
    that leaves no room for a token, UsageError for what cannot be asked, ModelError where the backend fails.
    """

    @property
    def name(self) -> str:
        """What the user called it."""
        ...

    @property
    def identity(self) -> str:
        """`name#digest` of what its answers depend on: weights, or a server's model name."""
        ...

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def deterministic(self) -> bool:
        """Whether the same request gets the same answer always."""
        ...

    def generate(self, requests: Sequence[Request]) -> Sequence[Completion]: ...

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> Sequence[FirstToken]: ...

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> Sequence[Scored]: ...


def require(model: LanguageModel, *abilities: Ability, purpose: str) -> None:
    """Raises UsageError where `model` lacks one of `abilities`: nothing is done without what it needs."""
    for ability in abilities:
        if ability not in model.abilities:
            raise UsageError(
                f"{purpose} needs {_WORDS[ability]}, and {model.name} gives none.",
                remedy="Use a local model, or a server that offers it.",
            )


_WORDS = {
    Ability.FIRST_TOKEN: "the distribution of the first token",
    Ability.LOGPROBS: "log-probabilities of generated tokens",
    Ability.SCORE: "log-probabilities of given text",
    Ability.HIDDEN: "hidden states",
}
