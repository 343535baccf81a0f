"""Quote text that somebody else wrote in a prompt, so that it cannot end its own quotation.

What is quoted may say anything, and its author may know this file. Three things keep it where it stands:

*   A fence is longer than any run of backticks in the text, and has a mark behind it that is a digest of the text
    itself. Whoever would foresee the mark would have to find a text that names its own digest, 64 bits of it; and a
    text that did is given another mark. The same text gets the same fence always, so that a verdict can be given again.
*   Marks of several blocks are drawn one from the other, each from all texts up to its own. Questions that begin alike
    have the same fences up to where they part, and prefix caches read that once.
*   What other programs could take for the end of a line or of a message is written out: see `shown`.

This keeps the parts of a prompt apart. It does not make a model immune to what it reads.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, wraps
from hashlib import sha256
from itertools import count
from typing import TypeVar

MARK_DIGITS = 16
"""Hexadecimal digits of a mark: 64 bits."""

_RUN = re.compile("`+")
_OPENERS = re.compile(r"<(?=[|｜]|/?\w[\w.-]*>|</?SYS>)|(?<=[|｜])(?=>)|\[(?=/?[A-Z_]{3,}\])")
"""Where control tokens of chat formats begin, and where the likes of `<|name|>` end: `<s>`, `<|im_end|>`, `[INST]`,
`<<SYS>>`."""
_BETWEEN_LETTERS = re.compile(r"[\W_]+")
_JOINERS = "\u200c\u200d"
"""Invisible, and part of how some languages and emoji are spelled."""

_REMEMBERED, _OF_LENGTH = 4096, 20_000
"""Texts, and the most characters of one: the steps of a trace come again with every question about a later one."""

_Found = TypeVar("_Found")


def _remembered(function: Callable[[str], _Found]) -> Callable[[str], _Found]:
    known = lru_cache(_REMEMBERED)(function)

    @wraps(function)
    def of(text: str) -> _Found:
        return known(text) if len(text) <= _OF_LENGTH else function(text)

    return of


def fence_for(*texts: str) -> str:
    """Backticks, at least three, and more than stand in a row in any of `texts`."""
    return "`" * max([3, *(_longest_run(text) + 1 for text in texts)])


def drawn_fence(seed: str, *texts: str) -> str:
    """One fence for all of `texts`, with a mark that is drawn from `seed` and from them, and that stands in none.

    Backticks alone can be foreseen; and a model that reads may take a shorter fence for the end of a longer one.
    """
    return next(fence_for(*texts) + marks[-1] for marks in _draws(seed, texts) if _free(marks[-1:], texts))


def drawn_fences(seed: str, texts: Sequence[str]) -> list[str]:
    """A fence for each of `texts`, drawn from `seed` and all texts up to its own. No mark stands in any text.

    Neither do look-alikes: letters of another width, capitals, or a mark that is cut up by spaces or by what cannot
    be seen.
    """
    marks = next(marks for marks in _draws(seed, texts) if _free(marks, texts))
    longest, fences = 2, []
    for mark, text in zip(marks, texts, strict=True):
        longest = max(longest, _longest_run(text))
        fences.append("`" * (longest + 1) + mark)
    return fences


def fenced(text: str, fence: str) -> str:
    return f"{fence}\n{text}\n{fence}"


def fenced_blocks(seed: str, blocks: Iterable[tuple[str, str]]) -> list[str]:
    """Parts of a prompt from pairs of a title of ours and a text of somebody else's: each title, then its text,
    written out and fenced."""
    given = [(title, shown(text)) for title, text in blocks]
    fences = drawn_fences(seed, [text for _, text in given])
    parts = zip(given, fences, strict=True)
    return [part for (title, text), fence in parts for part in (title, fenced(text, fence))]


@_remembered
def shown(text: str) -> str:
    """`text` with nothing in it that a reader obeys and does not show.

    Line feed is the only end of a line that is left. Other ends of lines, control characters, directions of writing and
    what has no width are written as escapes; control tokens of chat formats, which some servers read as such wherever
    they stand, get a space within.
    """
    spaced = _OPENERS.sub(lambda found: f"{found.group()} ", text.replace("\r\n", "\n"))
    return spaced.translate(_WRITTEN_OUT)


def is_text(text: str) -> bool:
    """Whether `text` is Unicode: halves of surrogate pairs are not."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _draws(seed: str, texts: Sequence[str]) -> Iterator[list[str]]:
    """Marks of `texts`, again and again.

    The first time, a mark depends on the texts up to its own, and so the marks of earlier texts are known to whoever
    writes a later one. If he names one, all are drawn again from all texts at once, and then he knows none.
    """
    data = [text.encode(errors="surrogatepass") for text in texts]
    everything = b""
    for draw in count():
        state = sha256(f"{draw}:{seed}".encode(errors="surrogatepass") + everything).digest()
        marks = []
        for each in data:
            state = sha256(state + len(each).to_bytes(8, "big") + each).digest()
            marks.append(state.hex()[:MARK_DIGITS])
        yield marks
        everything = state


def _free(marks: Sequence[str], texts: Sequence[str]) -> bool:
    bare = [_bare(text) for text in texts]
    return not any(mark in text for mark in marks for text in bare)


@_remembered
def _bare(text: str) -> str:
    """Letters and digits of `text`, as they look."""
    alike = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return _BETWEEN_LETTERS.sub("", alike.casefold())


@_remembered
def _longest_run(text: str) -> int:
    """Backticks in a row, those of another width included."""
    alike = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return max((len(run) for run in _RUN.findall(alike)), default=0)


class _WrittenOut(dict[int, str]):
    """What each character is shown as, found out when it first comes."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        self[code] = character.encode("unicode_escape").decode() if _is_hidden(character) else character
        return self[code]


def _is_hidden(character: str) -> bool:
    if character in _JOINERS or character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


_WRITTEN_OUT = _WrittenOut()
