"""A pocket problem read back from its text: so truth can be told of any solution of it, wherever it comes from."""

from __future__ import annotations

import re

from draftproof.drafting.pocket.arithmetic import Calculation, Sign
from draftproof.drafting.pocket.problems import EASY_OPENING, HARD_OPENINGS, TIMES, PlannedStep, PocketProblem

_NAME, _THINGS, _NUMBER = r"([A-Z][a-z]+)", r"([a-z]+)", r"(\d{1,6})"
_BEGINS = re.compile(rf"{_NAME} has {_NUMBER} {_THINGS}\.")
_GETS = re.compile(rf"{_NAME} (?:buys|finds|gets) {_NUMBER} more {_THINGS}\.")
_LOSES = re.compile(rf"{_NAME} (?:gives away|loses|sells) {_NUMBER} {_THINGS}\.")
_HOLDERS = re.compile(rf"{_NAME} buys {_NUMBER} ([a-z]+) of {_NUMBER} {_THINGS}\.")
_TIMES = re.compile(rf"{_NAME} has ({'|'.join(TIMES.values())}) as many {_THINGS} as {_NAME}\.")
_SHARES = re.compile(rf"{_NAME} shares all {_THINGS} among {_NUMBER} friends and takes the part of one\.")
_ASIDE = re.compile(rf"A shop nearby has {_NUMBER} {_THINGS}\.")
_ASKS = re.compile(rf"How many {_THINGS} does {_NAME} have now\?")
_FACTORS = {words: factor for factor, words in TIMES.items()}


def read_problem(text: str) -> PocketProblem | None:
    """The problem with its plan; None where the text is no pocket problem, or tells of things that cannot be."""
    sentences = re.findall(r"[^.?]+[.?]", text.strip())
    begins = _BEGINS.fullmatch(sentences[0]) if len(sentences) > 1 else None
    if begins is None or "".join(sentences) != text.strip():
        return None
    plan = _Plan(begins[1], begins[3], int(begins[2]))
    for sentence in (each.strip() for each in sentences[1:-1]):
        if not plan.takes(sentence):
            return None
    asks = _ASKS.fullmatch(sentences[-1].strip())
    if asks is None or (asks[1], asks[2]) != (plan.thing, plan.owner) or not plan.steps:
        return None
    return PocketProblem(text.strip(), tuple(plan.steps), plan.amount)


class _Plan:
    """Steps that follow from the sentences that were read."""

    def __init__(self, owner: str, thing: str, amount: int) -> None:
        self.owner = owner
        self.thing = thing
        self.amount = amount
        self.steps: list[PlannedStep] = []
        self._amount_from: int | None = None

    def takes(self, sentence: str) -> bool:
        """Adds the sentence's steps; False where it does not fit what was told."""
        if _ASIDE.fullmatch(sentence):
            return True
        if (found := _GETS.fullmatch(sentence)) and self._about(found[1], found[3]):
            return self._changes("+", int(found[2]), f"{self.owner} has")
        if (found := _LOSES.fullmatch(sentence)) and self._about(found[1], found[3]):
            return self._changes("-", int(found[2]), f"{self.owner} keeps")
        if (found := _SHARES.fullmatch(sentence)) and self._about(found[1], found[2]):
            return self._changes("/", int(found[3]), "a part is")
        if (found := _HOLDERS.fullmatch(sentence)) and self._about(found[1], found[5]):
            made = Calculation(int(found[2]), "*", int(found[4]))
            self._adds(made, f"the {found[3]} hold", None, None)
            return self._changes("+", made.result, f"{self.owner} has", number_from=len(self.steps) - 1)
        if (found := _TIMES.fullmatch(sentence)) and self._about(found[4], found[3]):
            self.owner = found[1]
            return self._changes("*", _FACTORS[found[2]], f"{self.owner} has")
        return False

    def _about(self, owner: str, thing: str) -> bool:
        return (owner, thing) == (self.owner, self.thing)

    def _changes(self, sign: Sign, number: int, what: str, number_from: int | None = None) -> bool:
        calculation = Calculation(self.amount, sign, number)
        if (sign == "/" and (number == 0 or self.amount % number)) or (sign == "-" and number > self.amount):
            return False
        self._adds(calculation, what, self._amount_from, number_from)
        self.amount, self._amount_from = calculation.result, len(self.steps) - 1
        return True

    def _adds(self, calculation: Calculation, what: str, left_from: int | None, right_from: int | None) -> None:
        opening = HARD_OPENINGS[0] if calculation.hard else EASY_OPENING
        self.steps.append(PlannedStep(f"{opening} {what} {calculation}.", calculation, left_from, right_from))
