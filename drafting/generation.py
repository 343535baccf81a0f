"""A generation: its text, its tokens, why it ended, and every round that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from draftproof.drafting.model import ModelInfo
from draftproof.drafting.models.text_stream import TextStream
from draftproof.drafting.rounds import RowRound, Totals, totals
from draftproof.drafting.rows import RowOutcome, TokenLogprob
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.vocabulary import Vocabulary


class FinishReason(StrEnum):
    STOP = "stop"
    """A stop token: the model's end of sequence, or one that was asked for."""
    STOP_STRING = "stop_string"
    LENGTH = "length"
    """`max_new_tokens`, or the model's context, was reached."""
    CANCELLED = "cancelled"
    """The reader of a stream went away, or the process was told to stop."""


@dataclass(frozen=True)
class Block:
    """What one pass of the target emitted: a token block, as the verdict log keeps it."""

    text: str
    """The text that became certain with this block; all blocks together are the generation's text."""
    tokens: tuple[int, ...]
    record: RowRound | None
    """None for the first block, which is the prompt's own next token."""


@dataclass(frozen=True)
class Generation:
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    """Emitted tokens, a stop token included, those that complete a stop string too."""
    text: str
    """Without control tokens and without the stop string; empty when the target has no tokenizer."""
    finish_reason: FinishReason
    blocks: tuple[Block, ...]
    sampling: Sampling
    model: ModelInfo
    parts: Mapping[str, str]
    """Names of drafter, rule and policy."""
    configuration: Mapping[str, Any]
    """The parts with their arguments, and digests of the drafter's own weights; JSON values."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """One for each token, where asked for."""

    @property
    def rounds(self) -> tuple[RowRound, ...]:
        return tuple(block.record for block in self.blocks if block.record is not None)

    @property
    def totals(self) -> Totals:
        """Figures over all rounds: acceptance length, block efficiency, times."""
        return totals(self.rounds)


@dataclass(frozen=True)
class Chunk:
    """A piece of a stream: what one round made certain."""

    text: str
    tokens: tuple[int, ...]
    record: RowRound | None
    generation: Generation | None = None
    """The whole of it, in the last chunk."""


@dataclass
class Progress:
    """A generation in the making."""

    model: ModelInfo
    prompt: Sequence[int]
    sampling: Sampling
    vocabulary: Vocabulary | None
    stop: Sequence[str]
    parts: Mapping[str, str]
    configuration: Mapping[str, Any]
    blocks: list[Block] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    def __post_init__(self) -> None:
        self._stream = None if self.vocabulary is None else TextStream(self.vocabulary, self.stop)

    def add(self, outcome: RowOutcome) -> None:
        """One round's tokens. What follows a stop string is dropped: plain decoding would never have made it."""
        tokens, text = outcome.tokens, ""
        if self._stream is not None:
            before = self._stream.tokens
            text = self._stream.feed(tokens)
            if self._stream.stopped_by is not None:
                tokens = tokens[: self._stream.tokens - before]
        record = outcome.record
        if record is not None and len(tokens) < record.emitted:
            record = replace(record, emitted=len(tokens))
        self.blocks.append(Block(text, tokens, record))
        self.logprobs += outcome.logprobs[: len(tokens)]
        if self._stream is not None and self._stream.stopped_by is not None:
            self.finish(FinishReason.STOP_STRING)

    def finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        rest = "" if self._stream is None else self._stream.finish()
        if rest:
            last = self.blocks[-1]
            self.blocks[-1] = Block(last.text + rest, last.tokens, last.record)

    def chunk(self) -> Chunk:
        """The newest block."""
        block = self.blocks[-1]
        return Chunk(block.text, block.tokens, block.record)

    def generation(self) -> Generation:
        assert self.finish_reason is not None
        return Generation(
            prompt=tuple(self.prompt),
            tokens=tuple(token for block in self.blocks for token in block.tokens),
            text="".join(block.text for block in self.blocks),
            finish_reason=self.finish_reason,
            blocks=tuple(self.blocks),
            sampling=self.sampling,
            model=self.model,
            parts=dict(self.parts),
            configuration=dict(self.configuration),
            logprobs=tuple(self.logprobs),
        )
