"""The text of one answer as its tokens come, and where it ends."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.language_model import StopCause

_LINE_END = "\n"


class WrittenText:
    """Tokens are looked at one by one, so that it does not matter how many came at once.

    The text ends behind the first stop string. A token that reaches beyond it is kept whole where the rest of it is
    nothing but line ends, which are part of the separator then; else the text is cut there, and has no ids.
    """

    def __init__(self, vocabulary: ByteVocabulary, stop: Sequence[str], end_ids: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._stop = tuple(stop)
        self._longest = max(map(len, self._stop), default=0)
        self._end_ids = end_ids
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ids: list[int] = []
        self._exact = True
        self.text = ""
        self.tokens = 0
        """How many were kept."""
        self.cause: StopCause | None = None
        self.stopped_by = ""

    def add(self, tokens: Sequence[int]) -> int:
        """Take tokens up to the one that ends the text; how many that are."""
        before = self.tokens
        for token in tokens:
            if self.cause is not None:
                break
            self._add(token)
        return self.tokens - before

    def finish(self, cause: StopCause) -> None:
        """No more tokens come, though the text did not end by itself."""
        self.cause = cause
        self.text += self._characters.decode(b"", final=True)

    @property
    def ids(self) -> tuple[int, ...]:
        """Of exactly the text; empty where there are none: where it was cut inside of a token or of a character, and
        where control tokens stand in it, which have no text."""
        if not self._exact:
            return ()
        data = b"".join(self._vocabulary.token_bytes(token) or b"" for token in self._ids)
        return tuple(self._ids) if data == self.text.encode() else ()

    def _add(self, token: int) -> None:
        self.tokens += 1
        if token in self._end_ids:
            self.finish(StopCause.END)
            return
        self._ids.append(token)
        data = self._vocabulary.token_bytes(token)
        if data is None:
            self._exact = False
            return
        known = len(self.text)
        self.text += self._characters.decode(data)
        if self._stop:
            self._look_for_stop(max(0, known - self._longest + 1))

    def _look_for_stop(self, begin: int) -> None:
        found = [(at + len(stop), at, stop) for stop in self._stop if (at := self.text.find(stop, begin)) >= 0]
        if not found:
            return
        end, _, self.stopped_by = min(found)  # of several that end there, the longest
        self.cause = StopCause.STOP
        half_a_character = bool(self._characters.getstate()[0])
        if half_a_character or self.text[end:].strip(_LINE_END):
            self.text = self.text[:end]
            self._exact = False
