"""Text from ids as they come: whole characters only, and nothing of a stop string.

Bytes of a character that is split between tokens wait for the rest of it; text that may turn out to begin a stop
string waits until it does or does not. What comes out does not depend on how the ids were cut into calls.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError


class TextStream:
    """The text of one row. Control tokens have none."""

    def __init__(self, vocabulary: Vocabulary, stop: Sequence[str] = ()) -> None:
        """The text ends before the first of `stop` to be completed; of several completed at once, the longest."""
        if isinstance(stop, str) or not all(stop):
            raise UsageError(f"A sequence of stop strings, none of them empty, was expected, got {stop!r}.")
        self._vocabulary = vocabulary
        self._stop = tuple(stop)
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped_by: str | None = None
        """The stop string that ended the text."""
        self.tokens = 0
        """Ids that were read: the one that completed a stop string is the last."""

    def feed(self, ids: Iterable[int]) -> str:
        """Text that `ids` make certain. After a stop string, ids are not read and nothing comes."""
        certain = []
        for token in ids:
            if self.stopped_by is not None:
                break
            self.tokens += 1
            certain.append(self._released(self._characters.decode(self._vocabulary.token_bytes(token) or b"")))
        return "".join(certain)

    def finish(self) -> str:
        """What was held back, when no more ids come; a character that was not completed is U+FFFD."""
        if self.stopped_by is not None:
            return ""
        certain = self._released(self._characters.decode(b"", final=True)) + self._held
        self._held = ""
        return certain

    def _released(self, text: str) -> str:
        """`text` goes behind what is held; returns what can no longer be part of a stop string."""
        self._held += text
        found = [(at + len(stop), at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            _, at, self.stopped_by = min(found)
            certain, self._held = self._held[:at], ""
            return certain
        keep = self._possible_beginning()
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def _possible_beginning(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stop), default=0)
        for length in range(min(longest, len(self._held)), 0, -1):
            if self._held.endswith(tuple(stop[:length] for stop in self._stop if len(stop) > length)):
                return length
        return 0
