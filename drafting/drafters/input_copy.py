"""Input-guided drafting: for outputs that repeat a source with few changes (Sun et al., arXiv 2205.10350, section 3.1).

A cursor walks through the source, and the draft is all that comes after it. When the output leaves the source, drafting
stops until the newest output tokens occur exactly once in what is unread; there the cursor goes on. Unlike prompt
lookup it never looks back, so phrases that come again and again do not lead it astray.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from draftproof.drafting.drafter import Commit
from draftproof.drafting.drafters.copying import CopyingDrafter
from draftproof.drafting.drafters.token_tree import TokenTree
from draftproof.drafting.drafters.trust import Trust
from draftproof.errors import UsageError

CONFIRMED = 3
"""Tokens copied after which a place is believed; one that is left sooner was a chance match, and is not read past."""


@dataclass(frozen=True, slots=True)
class _Cursor:
    at: int | None
    """Next source token; None while the place is lost."""
    run: int
    """Tokens that agreed up to here."""
    unread: int
    """Source tokens before it are behind us."""
    places: tuple[int, ...] = ()
    """While lost: where the source could go on, all ends of the newest output tokens in the unread part."""


class SourceIndex:
    """A row's text, and its place in the source after each output token."""

    __slots__ = ("_cursors", "_prompt_length", "_where", "source", "tokens", "trust")

    def __init__(self, prompt_length: int, source: Sequence[int]) -> None:
        self.tokens: list[int] = []
        self.source = tuple(source)
        self.trust = Trust()
        self._prompt_length = prompt_length
        self._cursors = [_Cursor(0, 0, 0)]
        self._where: dict[int, list[int]] = {}
        for place, token in enumerate(self.source):
            self._where.setdefault(token, []).append(place + 1)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def cursor(self) -> _Cursor:
        return self._cursors[-1]

    def append(self, token: int) -> None:
        self.tokens.append(token)
        if len(self.tokens) <= self._prompt_length:
            return
        cursor = self.cursor
        if cursor.at is not None and cursor.at < len(self.source):
            right = self.source[cursor.at] == token
            self.trust.observe(cursor.run, 1, right)
            if right:
                after = replace(cursor, at=cursor.at + 1, run=cursor.run + 1)
                self._cursors.append(replace(after, unread=after.at or 0) if after.run >= CONFIRMED else after)
                return
        else:
            self.trust.observe(0, 0, False)
        self._cursors.append(self._realigned(cursor, token))

    def _realigned(self, cursor: _Cursor, token: int) -> _Cursor:
        """Look for the newest output tokens in the unread source; one place is the place."""
        source = self.source
        places = tuple(place + 1 for place in cursor.places if place < len(source) and source[place] == token)
        length = cursor.run + 1 if places else 1
        if not places:
            places = tuple(place for place in self._where.get(token, ()) if place > cursor.unread)
        if len(places) == 1:
            return _Cursor(places[0], length, cursor.unread)
        return _Cursor(None, length if places else 0, cursor.unread, places)

    def truncate(self, length: int) -> None:
        while len(self.tokens) > length:
            self.tokens.pop()
            if len(self.tokens) >= self._prompt_length:
                self._cursors.pop()
                self.trust.undo()


class InputCopy(CopyingDrafter[SourceIndex]):
    """Chains of law `match`, from the prompt or a part of it."""

    def __init__(self, *, span: tuple[int, int] | None = None, min_score: float = 0.02, max_depth: int = 32) -> None:
        """`span`: the source's first token in the prompt and the one after its last, counted from the end of the
        prompt when negative; None is the whole prompt. `mark` says it for a single row. `min_score`: less likely
        paths are not drafted."""
        super().__init__("input-copy", max_nodes=max_depth, max_depth=max_depth)
        self._span = span
        self._min_score = min_score
        self._marked: dict[int, tuple[int, int]] = {}

    def mark(self, row: int, start: int, end: int) -> None:
        """The source of a row that is started later: tokens `start` … `end - 1` of its prompt."""
        if not 0 <= start <= end:
            raise UsageError(f"input-copy: the source of row {row} is marked from {start} to {end}.")
        self._marked[row] = (start, end)

    def stop(self, rows: Sequence[int]) -> None:
        super().stop(rows)
        for row in rows:
            self._marked.pop(row, None)

    def _index(self, event: Commit) -> SourceIndex:
        prompt = event.tokens[:-1]
        start, end = self._marked.get(event.row, self._span or (0, len(prompt)))
        return SourceIndex(len(prompt), prompt[start:end])

    def _tree(self, index: SourceIndex, budget: int) -> TokenTree:
        tree = TokenTree()
        cursor = index.cursor
        score = 1.0
        for step, token in enumerate(index.source[cursor.at : cursor.at + budget] if cursor.at is not None else ()):
            score *= index.trust.of(max(1, cursor.run + step), 1)
            if score < self._min_score:
                break
            tree.add(step - 1, token, score)
            if token in self._end_ids:
                break
        return tree
