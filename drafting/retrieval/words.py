"""Texts and questions as the words that the word index knows: the same rule for both, or nothing is found."""

from __future__ import annotations

import re
import unicodedata

WORD_RULE = "words@1"
"""Changes with every change by which any text would have other words: an index built by another rule is refused."""

_WORD = re.compile(r"\w+")
_STOP = frozenset(
    {"a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of",
     "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was", "will", "with"}
)  # fmt: skip
"""Lucene's English stop words: a question has many of them, and they tell documents apart hardly ever."""


def words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case, less English stop words."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP]
