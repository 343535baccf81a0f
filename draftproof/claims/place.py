"""Where a claim stands: its text, and the tokens around it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from draftproof.claims.lexer import Kind, Token

_WORD = re.compile(r"[a-z']+")


def words_of(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


@dataclass(frozen=True, slots=True)
class Setting:
    """What a whole step and its problem say, read once for all of the step's claims."""

    words: frozenset[str]
    text: str
    """Problem and step."""

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, problem: str, text: str) -> Setting:
        whole = f"{problem} {text}"
        return cls(frozenset(words_of(whole)), whole)

    @lru_cache(maxsize=256)  # noqa: B019 - settings are few and small in number, and end with their step
    def matches(self, pattern: re.Pattern[str]) -> bool:
        return pattern.search(self.text) is not None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a claim stands."""

    text: str
    problem: str
    piece: Sequence[Token]
    first: int
    right: int
    stop: int
    """Indices into `piece`: where the left side and the right side begin, and the end of both."""
    annotated: bool
    """Inside `<<...>>`: a calculator's annotation, not prose."""
    relation_in_words: bool

    @property
    def setting(self) -> Setting:
        return Setting.of(self.problem, self.text)

    @property
    def begin(self) -> int:
        """Offset in `text` of the claim's first character."""
        return self.piece[self.first].start

    @property
    def end(self) -> int:
        return self.piece[self.stop - 1].end

    def before(self, most: int) -> list[str]:
        """The words right before the claim, the nearest last, as far as nothing but words stands there."""
        found: list[str] = []
        for token in reversed(self.piece[max(0, self.first - most) : self.first]):
            if token.kind is not Kind.WORD:
                break
            found.insert(0, token.text)
        return found

    def after(self, most: int) -> list[str]:
        """The words right after the claim, as far as nothing but words stands there."""
        found: list[str] = []
        for token in self.piece[self.stop : self.stop + most]:
            if token.kind is not Kind.WORD:
                break
            found.append(token.text)
        return found
