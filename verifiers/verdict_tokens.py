"""Read a model's yes or no off the first token of its answer, and know when it cannot be read.

Backends tell the most probable tokens and no others. What they leave out might turn the answer: where only *yes* is
told, with a probability of 0.2, nothing is known of *no*. So the unseen part is counted against either side, and an
answer that it could turn is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from draftproof.errors import ContextLengthError, ModelError, UsageError
from draftproof.language_model import Context, FirstToken, LanguageModel

ASKED = 20
"""Most probable first tokens that are looked through: no server tells more."""

LEAST_MASS = 1e-4
"""Of *yes* and *no* together: below, the model did not answer the question."""

SPELLINGS = 8
"""Tokens that may say one word and be unseen: capital or not, with a space or a mark before it."""


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
        shares = [share for _, share in answer.top]
        if not shares or not all(isfinite(share) and share >= 0.0 for share in shares):
            return cls(0.0, 0.0, 1.0)
        # each unseen token is no more probable than the last that was seen
        unseen = min(max(0.0, 1.0 - sum(shares)), SPELLINGS * min(shares))
        return cls(_share(answer, "yes"), _share(answer, "no"), unseen)

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


def first_tokens(model: LanguageModel, contexts: Sequence[Context]) -> list[FirstToken | str]:
    """Answers in order; of what cannot be asked, why: `context_too_long` or `unreadable_text`.

    Raises ModelError where the backend fails.
    """
    try:
        return _asked(model, contexts)
    except (ContextLengthError, UsageError):  # of one of them: which is found by asking them one by one
        return [_alone(model, context) for context in contexts]


def _asked(model: LanguageModel, contexts: Sequence[Context]) -> list[FirstToken | str]:
    answers: list[FirstToken | str] = list(model.first_token(contexts, top=ASKED))
    if len(answers) != len(contexts):
        raise ModelError(f"{model.name} gave {len(answers)} distributions for {len(contexts)} questions.")
    return answers


def _alone(model: LanguageModel, context: Context) -> FirstToken | str:
    try:
        return _asked(model, [context])[0]
    except ContextLengthError:
        return "context_too_long"
    except UsageError:
        return "unreadable_text"


def _share(answer: FirstToken, word: str) -> float:
    """Of the tokens that say `word`, capital or not, with or without a space before."""
    return sum(share for text, share in answer.top if text.strip().strip("*\"'").lower() == word)
