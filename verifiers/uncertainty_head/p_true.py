"""The verifier `p-true`: asks the model itself whether a step is right, and reads the answer's first token.

After "Language models (mostly) know what they know" (Kadavath et al., arXiv 2207.05221, section 3): the probability of
*yes* against *no*, whatever else the model might have said. An answer that tokens which were not told could turn is
none. Small models and models without instruction tuning have little to say here; that is what the baseline shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from draftproof.errors import UsageError
from draftproof.language_model import Ability, Context, FirstToken, LanguageModel, require
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Cost, FeatureEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity
from draftproof.verifiers.fences import fenced_blocks, is_text
from draftproof.verifiers.verdict_tokens import ASKED, YesOrNo, first_tokens

TASK = "A problem is being solved step by step."
QUESTION = "Is the new step correct, given the problem and the steps so far? Answer with one word, yes or no.\nAnswer:"


class PTrueVerifier:
    """Score: P(yes) / (P(yes) + P(no)) at the answer's first token, at temperature 1."""

    name: str = "p-true"
    version: int = 3
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.OPINION

    def __init__(self, model: str | LanguageModel, threshold: float = 0.5) -> None:
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0.0 <= threshold <= 1.0:
            raise UsageError(f"The threshold is a probability, got {threshold!r}.")
        self._model = _opened(model) if isinstance(model, str) else model
        require(self._model, Ability.FIRST_TOKEN, purpose="The verifier p-true")
        self._source = model if isinstance(model, str) else model.name
        self._threshold = float(threshold)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"model": self._source, "threshold": self._threshold}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"model": self._model.identity, "question": [TASK, QUESTION]}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        asked = [subject for subject in subjects if _readable(subject)]
        answers = iter(first_tokens(self._model, [_question(subject) for subject in asked]) if asked else [])
        return [
            self._verdict(subject, signature, next(answers) if _readable(subject) else "unreadable_text")
            for subject in subjects
        ]

    def _verdict(self, subject: Subject, signature: str, answer: FirstToken | str) -> Verdict:
        read = None if isinstance(answer, str) else YesOrNo.of(answer)
        score = None if read is None else read.share_of_yes(self._threshold)
        told = {} if read is None or score is None else {"p_yes": read.yes, "p_no": read.no}
        reason, outcome = answer if isinstance(answer, str) else "no_answer", Outcome.ABSTAIN
        if score is not None:
            accepted = score >= self._threshold
            outcome = Outcome.ACCEPT if accepted else Outcome.REJECT
            reason = "at_or_above_threshold" if accepted else "below_threshold"
        return Verdict(
            subject=subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score=score,
            guarantee=self.guarantee,
            reason=reason,
            evidence=(FeatureEvidence(values=told),) if told else (),
            cost=Cost(calls=1, prompt_tokens=0 if isinstance(answer, str) else answer.prompt_tokens),
            raw={**told, "of": ASKED},
        )


def _readable(subject: Subject) -> bool:
    return all(map(is_text, (subject.problem, subject.text, *subject.context)))


def _question(subject: Subject) -> Context:
    before = "\n".join(step.strip() for step in subject.context) or "(none)"
    blocks = [("Problem:", subject.problem.strip()), ("Steps so far:", before), ("New step:", subject.text.strip())]
    return Context.of("\n\n".join([TASK, *fenced_blocks("p-true", blocks), QUESTION]))


def _opened(source: str) -> LanguageModel:
    from draftproof.drafting.language_models.open import open_language_model
    from draftproof.settings import settings

    return open_language_model(source, models_folder=settings().models_folder)
