"""Words that name the same place or people: `Norway` and `Norwegians`, `Luther` and `Lutheran`, `Panthers`, `Panther`.

Only for names, and only so far that none is called absent while its near relative stands there.
"""

from __future__ import annotations

from functools import lru_cache

_GROUPS = """
america american us usa
britain british briton uk
england english
scotland scottish scot scots scotsman
wales welsh welshman
ireland irish irishman
france french frenchman
spain spanish spaniard
portugal portuguese
netherlands dutch holland dutchman
germany german
switzerland swiss
italy italian
greece greek hellenic
turkey turkish turk
denmark danish dane
sweden swedish swede
norway norwegian norse
finland finnish finn
iceland icelandic
poland polish pole
czechia czech
hungary hungarian
ukraine ukrainian
china chinese
vietnam vietnamese
thailand thai
philippines filipino philippine
peru peruvian
argentina argentine argentinian
normandy norman
rome roman
naples neapolitan
venice venetian
vienna viennese
byzantium byzantine
flanders flemish
""".strip().splitlines()
_GROUP = {word: f"={line.split()[0]}" for line in _GROUPS for word in line.split()}

_ENDINGS = (("ian", 4), ("ean", 4), ("an", 5), ("ese", 4), ("ish", 4), ("ic", 5), ("i", 4), ("ia", 4))
"""Endings that make an adjective or a country, and how many letters must be left."""

_VOWELS = ("a", "o", "y", "e")


@lru_cache(maxsize=100_000)
def relatives(word: str) -> frozenset[str]:
    """Keys of a folded word: two words are related if they share one."""
    keys: set[str] = set()
    for each in (word, word[:-1]) if word.endswith("s") and len(word) > 4 else (word,):
        keys.add(each)
        if each in _GROUP:
            keys.add(_GROUP[each])
        if each.endswith("an") and len(each) > 4:
            keys.add(each[:-1])
        keys.update(each[: -len(end)] for end, left in _ENDINGS if each.endswith(end) and len(each) - len(end) >= left)
        if each.endswith(_VOWELS) and len(each) > 5:
            keys.add(each[:-1])
    return frozenset(keys)
