"""From a question and the answer so far to token ids.

Steps that are cut into tokens one by one are not the text cut into tokens: another token may begin before a step's end
and finish behind it. Here the whole text is cut at once, by offsets. Two stretches of it are known better than that:
the question as the chat template has it, and what this very model wrote, token by token. They keep their own ids where
they end between two tokens of the whole text; what comes to stand between them and foreign text is cut as a whole.

So a model that writes step by step reads exactly the ids that it would have written at once. Where a stretch of its own
does not end between two tokens of the whole text, because somebody else's text goes on in the middle of one, the
stretch is cut anew with the rest, and its ids may differ from those that were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftproof.drafting.chat_prompts import chat_ids
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.errors import DraftproofError, UsageError
from draftproof.language_model import Context, Message, Piece

_BETWEEN = "\n\n"
"""Between the messages, and before the answer, where there is no chat template."""
_KEPT = 256


@dataclass(frozen=True)
class _Head:
    """The messages as ids: what comes before the answer."""

    ids: tuple[int, ...]
    fixed: tuple[int, ...]
    """Up to the last control token: no text can change these."""
    tail: str
    """The text behind it, which is cut into tokens together with the answer."""


@dataclass(frozen=True)
class Continued:
    """A context with a text that follows, as ids."""

    ids: tuple[int, ...]
    begin: int
    """The first token that holds something of the text that follows."""


class ContextIds:
    """Reads contexts for one model."""

    def __init__(self, tokenizer: Any, vocabulary: ByteVocabulary, writer: str) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._writer = writer
        self._sizes = np.array([len(vocabulary.token_bytes(token) or b"") for token in range(vocabulary.size)])
        self._heads = lru_cache(_KEPT)(self._head)
        self._wholes = lru_cache(_KEPT)(self._whole)

    def ids(self, context: Context) -> tuple[int, ...]:
        """Raises UsageError for what is no text."""
        return self._wholes(context, "").ids

    def continued(self, context: Context, text: str) -> Continued:
        """The same with `text` behind it, all cut into tokens as one text."""
        return self._whole(context, text)

    def ends(self, ids: Sequence[int], text: str) -> tuple[int, ...]:
        """How many characters of `text`, which `ids` end with, each of them reaches to."""
        data = text.encode()
        reached = self._ends(ids)
        reached += len(data) - int(reached[-1])
        if text.isascii():
            return tuple(max(0, end) for end in reached.tolist())
        begins = np.cumsum([0, *(byte & 0xC0 != 0x80 for byte in data)])  # characters begun before each byte
        whole = [*(byte & 0xC0 != 0x80 for byte in data), True]  # whether a character ends before it
        return tuple(int(begins[at]) - (not whole[at]) for at in (max(0, end) for end in reached.tolist()))

    # The answer

    def _whole(self, context: Context, text: str) -> Continued:
        head = self._heads(context.messages)
        own = list(head.ids)
        written = list(context.written)
        for piece in written:
            _require_text(piece.text)
        _require_text(text)
        while written and self._is_own(written[0]):
            own += written.pop(0).ids
        if not written and not text:
            return Continued(tuple(own), len(own))
        return self._mixed(head, own, context.written, len(written), text)

    def _mixed(self, head: _Head, own: list[int], written: Sequence[Piece], foreign: int, text: str) -> Continued:
        """`own` are the ids of the head and of the pieces before the last `foreign`."""
        before = head.tail + "".join(piece.text for piece in written)
        ids = self._vocabulary.encode(before + text)
        ends = self._ends(ids)
        size = len((before + text).encode())
        if (int(ends[-1]) if len(ids) else 0) != size:  # a character that the vocabulary has not
            return Continued((*head.fixed, *ids), len(head.fixed) + len(self._vocabulary.encode(before)))
        leading = written[: len(written) - foreign]
        at = len((head.tail + "".join(piece.text for piece in leading)).encode())
        stretches = [(0, at, own[len(head.fixed) :])]
        for piece in written[len(leading) :]:
            first, at = at, at + len(piece.text.encode())
            if self._is_own(piece):
                if stretches[-1][1] == first:
                    stretches[-1] = (stretches[-1][0], at, [*stretches[-1][2], *piece.ids])
                else:
                    stretches.append((first, at, list(piece.ids)))
        joined = self._joined(ids, ends, stretches)
        begin = int(np.searchsorted(self._ends(joined), len(before.encode()), side="right"))
        return Continued((*head.fixed, *joined), len(head.fixed) + begin)

    def _joined(
        self, ids: list[int], ends: NDArray[np.int64], stretches: Sequence[tuple[int, int, list[int]]]
    ) -> list[int]:
        """`ids` of a text, whose bytes end at `ends`, with those stretches (first byte, last byte, ids) put in that
        begin and end between two tokens."""
        after = {0: 0} | {end: index + 1 for index, end in enumerate(ends.tolist())}
        joined: list[int] = []
        done = 0
        for first, last, own in stretches:
            if first in after and last in after:
                joined += ids[done : after[first]]
                joined += own
                done = after[last]
        return joined + ids[done:]

    def _ends(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """How many bytes of text there are up to the end of each token."""
        ends: NDArray[np.int64] = np.cumsum(self._sizes[np.array(ids, dtype=np.int64)])
        return ends

    def _is_own(self, piece: Piece) -> bool:
        """Whether its ids are this model's, and are its text and nothing else: ids come from outside, too."""
        if piece.writer != self._writer or not piece.ids:
            return False
        parts = [self._vocabulary.token_bytes(token) for token in piece.ids]
        return None not in parts and b"".join(part or b"" for part in parts) == piece.text.encode()

    # The question

    def _head(self, messages: tuple[Message, ...]) -> _Head:
        for message in messages:
            _require_text(message.role)
            _require_text(message.content)
        ids = self._templated(messages) if getattr(self._tokenizer, "chat_template", None) else self._plain(messages)
        controls = self._vocabulary.special_ids
        behind = max((index + 1 for index, token in enumerate(ids) if token in controls), default=0)
        tail_ids = ids[behind:]
        tail = self._vocabulary.decode(tail_ids)
        if (
            self._vocabulary.encode(tail) != tail_ids
        ):  # as when a tokenizer reads the beginning of a text in its own way
            return _Head(tuple(ids), tuple(ids), "")
        return _Head(tuple(ids), tuple(ids[:behind]), tail)

    def _templated(self, messages: tuple[Message, ...]) -> list[int]:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return chat_ids(chat, self._tokenizer)
        except DraftproofError:
            raise
        except Exception as error:  # templates raise what they like, for instance for a role that they do not have
            raise UsageError(
                f"The model's chat template refuses these messages: {type(error).__name__}: {error}",
                remedy="Most templates want an optional system message, then user and assistant in turn.",
            ) from error

    def _plain(self, messages: tuple[Message, ...]) -> list[int]:
        text = "".join(message.content + _BETWEEN for message in messages)
        controls = self._vocabulary.special_ids
        begin = list(takewhile(controls.__contains__, self._tokenizer("", verbose=False)["input_ids"]))
        read = [int(token) for token in self._tokenizer(text, verbose=False)["input_ids"]]
        while len(read) > len(begin) and read[-1] in controls:
            read.pop()
        spelled = [token for token in read if token in controls]
        if spelled != begin or read[: len(begin)] != begin:  # a message holds the text of a control token
            return [*begin, *self._vocabulary.encode(text)]
        return read


def _require_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"Half a surrogate pair, at {error.start}, is no text.") from error
