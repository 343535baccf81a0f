"""The verifier `judge`: a language model is asked whether something is right, and its answers are put to a vote.

Half of the votes ask whether it is correct, the other half whether it is wrong, so that a model that says *yes*, or
*nine*, to everything contradicts itself and is not heard. Each vote is read off the first token of the answer: a yes or
a no, or one digit, as SpecReason has it (arXiv 2504.07891). With the reference answer shown, such judges label steps
well enough to train on (arXiv 2511.06209, section 4).

What is judged was written by a model and may say anything, also "answer yes". It stands between fences that it cannot
close (`draftproof.verifiers.fences`), and nothing but the offered labels is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from draftproof.canonical import digest
from draftproof.errors import UsageError
from draftproof.language_model import FirstToken, LanguageModel
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict, VotesEvidence
from draftproof.verifier import abstention, identity
from draftproof.verifiers.judges import asking, wording
from draftproof.verifiers.judges.asking import Question, Reply, asker_of, even_votes, one_of, summed, told, whole_number
from draftproof.verifiers.judges.wording import RIGHT, WRONG, About, Level
from draftproof.verifiers.verdict_tokens import Rating, YesOrNo

Scale = Literal["yes-no", "digit", "mean-digit"]

UNREAD = ""


@dataclass(frozen=True)
class _Vote:
    """One answer. `share`: how probable it makes that the subject is right; None where it could not be read."""

    question: Question
    asked: str
    reply: Reply
    share: float | None
    said: str
    read: Mapping[str, Any]

    @property
    def word(self) -> str:
        """What a model says that votes so."""
        if "digits" in self.read:
            digits: Mapping[str, float] = self.read["digits"]
            return max(digits, key=lambda digit: digits[digit])
        return "Yes" if self.said == self.asked else "No"


class JudgeVerifier:
    """Accepts what more than half of all votes call right, rejects what more than half call wrong; else abstains.

    Score: the median over the votes that could be read of P(right) / (P(right) + P(wrong)), or of the digit's share of
    nine, counted from the other end where a mistake was asked for.
    """

    name: str = "judge"
    version: int = 2
    guarantee: Guarantee = Guarantee.OPINION

    def __init__(
        self,
        model: str | LanguageModel,
        votes: int = 2,
        threshold: float = 0.5,
        scale: Scale = "yes-no",
        level: Level = "step",
        about: About = "correct",
        reference: bool = False,
        reasons: asking.Reasons = "none",
        reason_tokens: int = 160,
        seed: int = 0,
        api_key_env: str | None = None,
    ) -> None:
        """
        Args:
            model: what `open_language_model` takes: a local model, or `http://HOST:PORT/v1#MODEL`.
            votes: how often each subject is asked about; even, so that either question is asked as often.
            threshold: least share with which a vote is for *right*.
            scale: what a vote is: yes or no, the most probable digit, or the mean of the digits by their probabilities.
            level: what is judged: a step, a whole trace, a claim, or a document (an answer with its documents).
            about: whether it is correct, or supported by its documents.
            reference: show the reference answer; a subject that brings none is abstained from.
            reasons: none; after the verdict, which they cannot change any more; or before it, in each vote.
            reason_tokens: how long reasons may be.
            seed: of the fences, and of reasons that are drawn before.
            api_key_env: of a server, the environment variable that holds its key.
        """
        one_of("scale", scale, Scale)
        one_of("level", level, Level)
        one_of("about", about, About)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0.0 <= threshold <= 1.0:
            raise UsageError(f"The threshold is a probability, got {threshold!r}.")
        if not isinstance(reference, bool):
            raise UsageError(f"reference is true or false, got {reference!r}.")
        self._votes = even_votes(votes, "Half of them ask whether it is right, the others whether it is wrong")
        self._seed = whole_number("The seed", seed)
        self._asker = asker_of(self.name, model, api_key_env, reasons, reason_tokens)
        self._threshold = float(threshold)
        self._scale: Scale = scale
        self._level: Level = level
        self._about: About = about
        self._reference = reference
        self._arguments = {
            "model": model if isinstance(model, str) else model.name,
            "votes": votes,
            "threshold": self._threshold,
            "scale": scale,
            "level": level,
            "about": about,
            "reference": reference,
            "reasons": reasons,
            "reason_tokens": reason_tokens,
            "seed": seed,
            "api_key_env": api_key_env,
        }

    @property
    def granularity(self) -> Granularity:
        return wording.granularity(self._level)

    @property
    def proposition(self) -> Proposition:
        return Proposition(self._about)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self._arguments

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"model": self._asker.model.identity, "prompt": digest([*asking.PROMPTS, *wording.PROMPTS])}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        asked = [self._questions(subject) for subject in subjects]
        replies = iter(self._asker.ask([each for part in asked if not isinstance(part, str) for each in part]))
        signature = identity(self)
        found: list[tuple[Verdict, _Vote | None]] = []
        for subject, part in zip(subjects, asked, strict=True):
            if isinstance(part, str):
                found.append((abstention(self, subject, reason=part), None))
            else:
                votes = [self._vote(number, each, next(replies)) for number, each in enumerate(part)]
                found.append(self._verdict(subject, votes, signature))
        return self._explained(found) if self._asker.reasons == "after" else [verdict for verdict, _ in found]

    def _questions(self, subject: Subject) -> list[Question] | str:
        """One a vote; or why the subject is not asked about."""
        if not subject.text.strip():
            return f"empty_{self._level}"
        if self._reference and not (subject.reference_answer or "").strip():
            return "no_reference_answer"
        if self._about == "supported" and not any(text.strip() for text in subject.documents.values()):
            return "no_documents"
        shown = [
            *wording.premises(subject, self._level, self._about, reference=self._reference),
            wording.judged(subject, self._level),
        ]
        questions = [
            Question(
                tuple(shown),
                wording.question(self._level, self._about, _asked(vote), digit=self._scale != "yes-no"),
                f"{self._seed}:{vote}",
            )
            for vote in range(self._votes)
        ]
        return questions if questions[0].readable else "unreadable_text"

    def _vote(self, number: int, question: Question, reply: Reply) -> _Vote:
        asked = _asked(number)
        if isinstance(reply.answer, str):
            return _Vote(question, asked, reply, None, UNREAD, {"reason": reply.answer})
        share, read = self._read(asked, reply.answer)
        said = UNREAD if share is None else RIGHT if share >= self._threshold else WRONG
        return _Vote(question, asked, reply, share, said, read)

    def _read(self, asked: str, answer: FirstToken) -> tuple[float | None, dict[str, Any]]:
        """How probable it is that the subject is right, if that can be known, and what was told."""
        if self._scale == "yes-no":
            word = YesOrNo.of(answer)
            share = (word if asked == RIGHT else word.swapped).share_of_yes(self._threshold)
            return share, {"yes": word.yes, "no": word.no, "unseen": word.unseen}
        rating = Rating.of(answer) if asked == RIGHT else Rating.of(answer).reversed
        share = (rating.most_probable if self._scale == "digit" else rating.mean)(self._threshold)
        told_of = Rating.of(answer).digits
        return share, {"digits": told_of.told, "unseen": told_of.unseen}

    def _verdict(self, subject: Subject, votes: Sequence[_Vote], signature: str) -> tuple[Verdict, _Vote | None]:
        """The verdict, and a vote to be asked about it."""
        said = [vote.said for vote in votes]
        most = max((RIGHT, WRONG), key=said.count)
        won = 2 * said.count(most) > len(said)
        shares = [vote.share for vote in votes if vote.share is not None]
        verdict = Verdict(
            subject=subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=Outcome.ABSTAIN if not won else Outcome.ACCEPT if most == RIGHT else Outcome.REJECT,
            score=median(shares) if won else None,
            guarantee=self.guarantee,
            reason=f"voted_{most}" if won else _why_not(votes),
            evidence=(
                VotesEvidence(votes=tuple(said), winner=most if won else None, agreement=said.count(most) / len(said)),
            ),
            cost=summed([vote.reply.cost for vote in votes]),
            raw={"threshold": self._threshold, "votes": [_told(vote) for vote in votes]},
        )
        return verdict, next((vote for vote in votes if won and vote.said == most), None)

    def _explained(self, found: Sequence[tuple[Verdict, _Vote | None]]) -> list[Verdict]:
        """The verdicts, unchanged, with why."""
        reasons = iter(self._asker.explained([(vote.question, vote.word) for _, vote in found if vote is not None]))
        verdicts = []
        for verdict, vote in found:
            if vote is None:
                verdicts.append(verdict)
                continue
            text, cost = next(reasons)
            more = {"raw": verdict.raw | {"reasons": text}, "cost": summed([verdict.cost, cost])}
            verdicts.append(verdict.model_copy(update=more))
        return verdicts


def _asked(vote: int) -> str:
    """Which question the vote of this number is asked."""
    return (RIGHT, WRONG)[vote % 2]


def _told(vote: _Vote) -> dict[str, Any]:
    return {"asked": vote.asked, **vote.read} | ({"thoughts": told(vote.reply.thoughts)} if vote.reply.thoughts else {})


def _why_not(votes: Sequence[_Vote]) -> str:
    """Why nothing won."""
    reasons = {vote.reply.answer for vote in votes if isinstance(vote.reply.answer, str)}
    if reasons:
        return min(reasons)
    return "no_verdict_token" if all(vote.said == UNREAD for vote in votes) else "no_majority"
