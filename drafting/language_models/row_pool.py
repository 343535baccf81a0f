"""Open rows that nobody decodes now, and which of them may serve a text: the prefix cache."""

from __future__ import annotations

from draftproof.drafting.rows import common_length
from draftproof.drafting.session import Session
from draftproof.drafting.turns import new_row


class RowPool:
    """Rows of one session that stay open between requests, the least recently used of them first."""

    def __init__(self, session: Session, most: int) -> None:
        self._session = session
        self._most = most
        self._idle: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, ids: list[int]) -> int:
        """The row that has most of `ids` from the beginning, or the id of a new one, to be opened.

        A row is only taken where all that it was begun with is of use, or half of all that it holds: else the greater
        part would be lost to whoever comes back for it, as when several questions begin with the same instruction.
        """
        rows, best, most = self._session.rows, None, 0
        for row in self._idle:
            held = rows[row]
            least = max(most, 1, min(held.prompt_length, (len(held.tokens) + 1) // 2))
            if held.tokens[:least] == ids[:least]:  # of most rows the first few tokens differ already
                best, most = row, common_length(held.tokens, ids)
        if best is None:
            return new_row()
        del self._idle[best]
        return best

    def give(self, row: int) -> None:
        """Nobody decodes it any more."""
        self._idle[row] = None
        if len(self._idle) > self._most:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            self._session.close([oldest])

    def clear(self) -> None:
        rows = list(self._idle)
        self._idle.clear()
        self._session.close(rows)
