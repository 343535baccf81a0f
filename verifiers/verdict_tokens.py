"""Read a model's verdict off the first token of its answer, and know when it cannot be read.

Only the labels that were offered count: yes and no, ten digits, the letters of candidates. Whatever else a model would
say, it cannot say here.

Backends tell the most probable tokens and no others. What they leave out might turn the answer: where only *yes* is
told, with a probability of 0.2, nothing is known of *no*. So the unseen part is counted against either side, and an
answer that it could turn is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TypeVar

from draftproof.errors import ContextLengthError, ModelError, UsageError
from draftproof.language_model import Completion, Context, FirstToken, LanguageModel, Request

ASKED = 20
"""Most probable first tokens that are looked through: no server tells more."""

ASKED_OF_LABELS = 1_000
"""The same where a verdict is read whatever else a model would rather say. Models on this machine tell so many, and
then next to nothing is unseen; servers tell what they tell."""

LEAST_MASS = 1e-4
"""Of all labels together: below, the model did not answer the question."""

SPELLINGS = 8
"""Tokens that may say one label and be unseen: capital or not, with a space or a mark before it."""

DIGITS = "0123456789"


@dataclass(frozen=True)
class Labels:
    """How probable each label is as the answer's first token, all its spellings together."""

    shares: Mapping[str, float]
    """Label -> its probability, 0 where it is not told."""
    unseen: float
    """At most this much may be missing from any one of them."""
    missing: float
    """At most this much may be missing from all of them together."""

    @classmethod
    def of(cls, answer: FirstToken, labels: Sequence[str]) -> Labels:
        """Probabilities that are no numbers make the answer unreadable."""
        told = [share for _, share in answer.top]
        if not told or not all(isfinite(share) and share >= 0.0 for share in told):
            return cls(dict.fromkeys(labels, 0.0), 1.0, 1.0)
        # each unseen token is no more probable than the last that was seen
        rest, each = max(0.0, 1.0 - sum(told)), SPELLINGS * min(told)
        shares = {label: sum(share for text, share in answer.top if _says(text, label)) for label in labels}
        return cls(shares, min(rest, each), min(rest, each * len(labels)))

    @property
    def mass(self) -> float:
        return sum(self.shares.values())

    @property
    def answers(self) -> bool:
        """Whether the model answered the question at all."""
        return self.mass >= LEAST_MASS

    @property
    def told(self) -> dict[str, float]:
        """What was told of the labels, for people."""
        return {label: share for label, share in self.shares.items() if share > 0.0}

    def share(self, label: str) -> float:
        """Of all labels; 0 where none is told."""
        return min(1.0, self.shares[label] / self.mass) if self.mass > 0.0 else 0.0

    def winner(self, rivals: Callable[[str, str], bool] = lambda label, other: label != other) -> str | None:
        """The most probable label, where no rival could be as probable; `rivals` says which labels are."""
        if not self.answers:
            return None
        label = max(self.shares, key=lambda each: self.shares[each])
        most = max((share for other, share in self.shares.items() if rivals(label, other)), default=-1.0)
        return label if self.shares[label] > most + self.unseen or most < 0.0 else None


@dataclass(frozen=True)
class YesOrNo:
    """How probable either word is as the answer's first token, all spellings together."""

    yes: float
    no: float
    unseen: float
    """At most this much may be missing from either."""

    @classmethod
    def of(cls, answer: FirstToken) -> YesOrNo:
        """Probabilities that are no numbers make the answer unreadable."""
        labels = Labels.of(answer, ("yes", "no"))
        return cls(labels.shares["yes"], labels.shares["no"], labels.unseen)

    @property
    def swapped(self) -> YesOrNo:
        """The answer to the contrary question."""
        return YesOrNo(self.no, self.yes, self.unseen)

    @property
    def answers(self) -> bool:
        """Whether the model answered the question at all."""
        return self.yes + self.no >= LEAST_MASS

    def share_of_yes(self, threshold: float) -> float | None:
        """P(yes) / (P(yes) + P(no)); None where neither is told, or where the unseen part could bring it over or under
        the threshold."""
        if not self.answers:
            return None
        told = self.yes + self.no
        least, most = self.yes / (told + self.unseen), (self.yes + self.unseen) / (told + self.unseen)
        share = min(1.0, self.yes / told)
        return share if (least >= threshold) == (most >= threshold) == (share >= threshold) else None


@dataclass(frozen=True)
class Rating:
    """One digit, as a share of nine."""

    digits: Labels

    @classmethod
    def of(cls, answer: FirstToken) -> Rating:
        return cls(Labels.of(answer, tuple(DIGITS)))

    @property
    def reversed(self) -> Rating:
        """The rating on the contrary question."""
        shares = {str(9 - int(digit)): share for digit, share in self.digits.shares.items()}
        return Rating(Labels(shares, self.digits.unseen, self.digits.missing))

    def most_probable(self, threshold: float) -> float | None:
        """The most probable digit; None where a digit on the other side of `threshold` may be as probable."""
        digit = self.digits.winner(lambda one, other: (_ninth(one) >= threshold) != (_ninth(other) >= threshold))
        return None if digit is None else _ninth(digit)

    def mean(self, threshold: float) -> float | None:
        """The mean of the digits by their probabilities; None where the missing part could bring it over or under
        `threshold`."""
        if not self.digits.answers:
            return None
        told, missing = self.digits.mass, self.digits.missing
        of_it = sum(_ninth(digit) * share for digit, share in self.digits.shares.items())
        mean = min(1.0, of_it / told)
        least, most = of_it / (told + missing), (of_it + missing) / (told + missing)
        return mean if (least >= threshold) == (most >= threshold) == (mean >= threshold) else None


def first_tokens(model: LanguageModel, contexts: Sequence[Context], top: int = ASKED) -> list[FirstToken | str]:
    """Answers in order; of what cannot be asked, why: `context_too_long` or `unreadable_text`.

    Raises ModelError where the backend fails.
    """
    return _each(model, lambda part: model.first_token(part, top=top), contexts, "distributions")


def completions(model: LanguageModel, requests: Sequence[Request]) -> list[Completion | str]:
    """The same of texts."""
    return _each(model, model.generate, requests, "texts")


_Question = TypeVar("_Question")
_Answer = TypeVar("_Answer")


def _each(
    model: LanguageModel,
    ask: Callable[[Sequence[_Question]], Sequence[_Answer]],
    questions: Sequence[_Question],
    what: str,
) -> list[_Answer | str]:
    if not questions:
        return []
    try:
        answers: list[_Answer | str] = list(ask(questions))
    except ContextLengthError:
        if len(questions) == 1:
            return ["context_too_long"]
    except UsageError:
        if len(questions) == 1:
            return ["unreadable_text"]
    else:
        if len(answers) != len(questions):
            raise ModelError(f"{model.name} gave {len(answers)} {what} for {len(questions)} questions.")
        return answers
    # one of them: which is found by asking them one by one
    return [answer for question in questions for answer in _each(model, ask, [question], what)]


def _says(token: str, label: str) -> bool:
    """With or without a space before, and in quotes or stars as models like to set their answers; words capital or
    not. A small letter names no candidate: it is more likely a word."""
    said = token.strip().strip("*\"'")
    return said == label or (len(label) > 1 and said.lower() == label)


def _ninth(digit: str) -> float:
    return int(digit) / 9
