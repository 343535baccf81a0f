"""Which capitalised words are no names: function words anywhere, ordinary words where a sentence begins.

The list of ordinary words was counted, not written. In it are words spelled with a small letter at least four times,
and in at least two, of GSM8K, ProcessBench, MR-GSM8K, MR-Ben, PRMBench and BIG-Bench Mistake (MIT and Apache-2.0) and
the tiny Shakespeare corpus (public domain); and those that the tokenizer of SmolLM2 (Apache-2.0) has as tokens, unless
it learned them with a capital long before. Left out is what an ending makes from another.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from draftproof.claims.words import words as table

FUNCTION_WORDS = table(
    "a about above according actually after again against all almost along already also although always am among an"
    " and another answer any anyone anything are as at away back based be because been before being below between"
    " both but by can cannot case claim could despite did do does doing done down due during each either else even"
    " every everyone everything ever few final finally first following for former found from further given had has"
    " have having he hence her here hers herself him himself his how however i if in indeed instead into is it its"
    " itself just last later latter least less let like likely many may maybe me mean meanwhile might more moreover"
    " most much must my myself near neither never nevertheless next no nobody none nor not note nothing now of off"
    " often ok okay on once one only onto or other others otherwise our ours ourselves out over overall own part per"
    " perhaps please possibly rather same second see several shall she should since so some someone something"
    " sometimes soon still such sure than thank that the their theirs them themselves then there thereby therefore"
    " these they third this those though through throughout thus to today together too toward towards true two three"
    " four five six seven eight nine ten under unless unlike until up upon us usually very via was we well were what"
    " whatever when whenever where whereas wherever whether which while who whoever whole whom whose why will with"
    " within without would yes yet you your yours yourself ll ve re don doesn didn isn aren wasn weren won couldn"
    " shouldn wouldn hasn haven hadn furthermore false"
)

TITLES = table(
    "mr mrs ms miss dr prof professor sir dame lord lady president king queen prince princess emperor empress pope"
    " saint st general gen captain capt colonel col major lieutenant lt sergeant sgt senator sen governor gov mayor"
    " judge justice minister chancellor duke duchess count countess earl baron bishop archbishop cardinal rev reverend"
    " father brother sister doctor coach director jr sr phd md esq hon"
)
"""They may be added to a name or left out."""

NO_ANSWERS = table("unknown unanswerable unclear unsure uncertain true correct incorrect wrong right agree")
"""An answer that is nothing but one of these names nobody."""

DEGREES = frozenset(("jr", "sr", "phd", "md", "esq", "mr", "mrs", "dr"))
"""Titles that are written in capitals as well: `MS` is none."""

PARTICLES = table(
    "of the de la le les du des van von der den dem di da do dos das del della al el bin ibn ben y e en s"
)
"""Written small inside names, and not needed to find one."""

ERAS = frozenset(("am", "pm", "ad", "bc", "bce", "ce"))

_ENDINGS = (
    ("s", ""), ("es", ""), ("es", "is"), ("ings", ""), ("ings", "e"), ("ies", "y"), ("ed", ""), ("ed", "e"),
    ("ing", ""), ("ing", "e"), ("ly", ""), ("er", ""), ("ers", ""), ("er", "e"), ("ers", "e"), ("est", ""),
    ("ness", ""), ("ally", ""), ("ation", "e"), ("ations", "e"),
)  # fmt: skip

_MADE = ("ly", "tion", "tions", "ness", "ical", "graphy", "ology", "ised", "ized", "ating", "ising", "izing", "metry")
"""Endings of words that are rarely names, from this length on:"""
_MADE_LENGTH = 8

_PREFIXES = ("co", "non", "un", "re", "dis", "pre", "post", "anti", "multi", "inter", "over", "under", "sub", "bio")


@cache
def ordinary_words() -> frozenset[str]:
    listed = files("draftproof.verifiers.grounding").joinpath("ordinary_words.txt").read_text(encoding="ascii")
    return frozenset(listed.split())


def is_ordinary(word: str) -> bool:
    """Whether a lower-case word is in the list, or made from one that is."""
    if word in FUNCTION_WORDS or (len(word) >= _MADE_LENGTH and word.endswith(_MADE)) or _is_made(word, 2):
        return True
    rests = (word.removeprefix(prefix) for prefix in _PREFIXES if word.startswith(prefix))
    return any(len(rest) > 4 and _is_made(rest, 2) for rest in rests)


def _is_made(word: str, endings: int) -> bool:
    """Whether it is in the list less so many endings: `considerings` less two is *consider*."""
    if word in ordinary_words():
        return True
    return endings > 0 and any(_is_made(stem, endings - 1) for stem in _stems(word))


def _stems(word: str) -> Iterator[str]:
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            yield word[: -len(ending)] + instead
