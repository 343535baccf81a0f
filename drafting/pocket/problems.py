"""Word problems that are made together with their solutions, step by step.

A story has somebody who owns some things, and events that change how many. An event is a sentence of the problem, and a
step or two of the solution; a step is a sentence with one calculation in it. All is drawn from one random generator:
a seed names a problem.

The written solutions open hard steps in one of several ways and easy ones always in the same way: writers hesitate
where thinking is needed (the observation that GlimpRouter rests on, arXiv 2601.05110).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from draftproof.drafting.pocket.arithmetic import Calculation, Sign

SEPARATOR = "\n\n"
"""Between the problem and the solution, and between steps."""
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo", "Iris", "Jon", "Kim", "Leo", "Mia", "Noah")
THINGS = ("apples", "books", "cards", "coins", "eggs", "marbles", "pens", "shells", "stamps", "stickers")
HOLDERS = ("bags", "boxes", "packs", "rows")
TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times"}
EASY_OPENING = "So"
HARD_OPENINGS = ("Carefully,", "Next,", "Now", "Then")
LARGEST = 499
"""No amount is above it."""


@dataclass(frozen=True)
class PlannedStep:
    text: str
    calculation: Calculation
    left_from: int | None = None
    """Which planned step's result the left number is; None for a number of the problem."""
    right_from: int | None = None


@dataclass(frozen=True)
class PocketProblem:
    text: str
    steps: tuple[PlannedStep, ...]
    answer: int

    @property
    def closing(self) -> str:
        return f"The answer is {self.answer}."

    @property
    def solution(self) -> str:
        return SEPARATOR.join([*(step.text for step in self.steps), self.closing])


@dataclass
class _Story:
    """What was told so far: sentences, and the steps that follow from them."""

    random: random.Random
    owner: str
    thing: str
    amount: int
    amount_from: int | None = None
    """The step that came to this amount; None while it is the one the problem begins with."""
    sentences: list[str] = field(default_factory=list)
    steps: list[PlannedStep] = field(default_factory=list)

    def changes(self, sign: Sign, number: int, what: str, number_from: int | None = None) -> None:
        """A step from the amount to the next one."""
        self.amount = self.step(Calculation(self.amount, sign, number), what, self.amount_from, number_from)
        self.amount_from = len(self.steps) - 1

    def step(self, calculation: Calculation, what: str, left_from: int | None, right_from: int | None) -> int:
        opening = self.random.choice(HARD_OPENINGS) if calculation.hard else EASY_OPENING
        self.steps.append(PlannedStep(f"{opening} {what} {calculation}.", calculation, left_from, right_from))
        return calculation.result


Event = Callable[[_Story], bool]
"""Tells one event and its steps; False, and nothing told, where it does not fit the amount."""


def problem(source: random.Random, *, fewest: int = 2, most: int = 6) -> PocketProblem:
    """One with `fewest` to `most` events."""
    story = _Story(source, source.choice(NAMES), source.choice(THINGS), _number(source, LARGEST // 2))
    story.sentences.append(f"{story.owner} has {story.amount} {story.thing}.")
    wanted, told = source.randint(fewest, most), 0
    while told < wanted:
        (event,) = source.choices(EVENTS, WEIGHTS)
        told += event(story)
        if source.random() < 0.1:
            story.sentences.append(_aside(story))
    story.sentences.append(f"How many {story.thing} does {story.owner} have now?")
    return PocketProblem(" ".join(story.sentences), tuple(story.steps), story.amount)


def _number(source: random.Random, most: int) -> int:
    """From 2 to `most`, small as often as large."""
    top = source.choice((12, 60, most))
    return source.randint(2, max(2, min(most, top)))


def _gets(story: _Story) -> bool:
    most = LARGEST - story.amount
    if most < 2:
        return False
    number = _number(story.random, most)
    verb = story.random.choice(("buys", "finds", "gets"))
    story.sentences.append(f"{story.owner} {verb} {number} more {story.thing}.")
    story.changes("+", number, f"{story.owner} has")
    return True


def _loses(story: _Story) -> bool:
    if story.amount < 4:
        return False
    number = _number(story.random, story.amount - 1)
    verb = story.random.choice(("gives away", "loses", "sells"))
    story.sentences.append(f"{story.owner} {verb} {number} {story.thing}.")
    story.changes("-", number, f"{story.owner} keeps")
    return True


def _gets_holders(story: _Story) -> bool:
    count = story.random.randint(2, 9)
    each = story.random.randint(2, story.random.choice((10, 10, 50)))
    if story.amount + count * each > LARGEST:
        return False
    holder = story.random.choice(HOLDERS)
    story.sentences.append(f"{story.owner} buys {count} {holder} of {each} {story.thing}.")
    made = story.step(Calculation(count, "*", each), f"the {holder} hold", None, None)
    story.changes("+", made, f"{story.owner} has", number_from=len(story.steps) - 1)
    return True


def _multiplies(story: _Story) -> bool:
    factor = story.random.choice(tuple(TIMES))
    if story.amount < 2 or story.amount * factor > LARGEST:
        return False
    other = story.random.choice([name for name in NAMES if name != story.owner])
    story.sentences.append(f"{other} has {TIMES[factor]} as many {story.thing} as {story.owner}.")
    story.owner = other
    story.changes("*", factor, f"{other} has")
    return True


def _shares(story: _Story) -> bool:
    fitting = [count for count in range(2, 10) if story.amount % count == 0 and story.amount // count > 1]
    if not fitting:
        return False
    count = story.random.choice(fitting)
    story.sentences.append(f"{story.owner} shares all {story.thing} among {count} friends and takes the part of one.")
    story.changes("/", count, "a part is")
    return True


def _aside(story: _Story) -> str:
    """A sentence with a number that nothing asks for."""
    other = story.random.choice([thing for thing in THINGS if thing != story.thing])
    return f"A shop nearby has {_number(story.random, LARGEST)} {other}."


EVENTS: tuple[Event, ...] = (_gets, _loses, _gets_holders, _multiplies, _shares)
WEIGHTS = (4, 4, 3, 2, 2)
