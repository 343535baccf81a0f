"""The verifier `judge-group`: a language model is shown the candidates of a group and asked which is the best.

All candidates in one list, or two at a time; shuffled, and asked again in the opposite order, so that a model that
likes a place contradicts itself and is not heard. Each answer is one letter, read off the distribution of its first
token. What candidates say stands in fences that they cannot close (`draftproof.verifiers.fences`).

A comparison is worth what it compares: half of a group has a best candidate too. `whole_group` names a group by what is
in it; candidates of such a group are judged when all of them have come, and in no other company.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from draftproof.canonical import digest, short
from draftproof.errors import ModelError
from draftproof.language_model import LanguageModel
from draftproof.subject import Granularity, Subject
from draftproof.verdict import ErrorEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import FREE, abstention, error_verdict, identity
from draftproof.verifiers.fences import is_text
from draftproof.verifiers.judges import asking, wording
from draftproof.verifiers.judges.asking import Reply, asker_of, even_votes, one_of, summed, whole_number
from draftproof.verifiers.judges.ballots import MOST, Ballot, By, Result, ballots, count, result
from draftproof.verifiers.judges.wording import Level

_WHOLE = "group:"


def whole_group(candidates: Sequence[str]) -> str:
    """A name for `Subject.group` that tells how many candidates there are, and which, in any order.

    Raises ValueError for what is no text.
    """
    return f"{_WHOLE}{len(candidates)}:{short(digest(sorted(candidates)), 32)}"


class GroupJudgeVerifier:
    """Accepts the candidate that more than half of all votes call the best, or that beats every other one, and rejects
    the others; abstains from all of them where there is none.

    Candidates with the same text are one candidate. Scores of a group's different candidates sum to one: the mean
    probability of each letter, of those that could be read. What a group cost stands in its first verdict.
    """

    name: str = "judge-group"
    version: int = 1
    proposition: Proposition = Proposition.BEST_OF_GROUP
    guarantee: Guarantee = Guarantee.OPINION

    def __init__(
        self,
        model: str | LanguageModel,
        votes: int = 2,
        by: By = "list",
        level: Level = "trace",
        reasons: asking.Reasons = "none",
        reason_tokens: int = 160,
        seed: int = 0,
        api_key_env: str | None = None,
    ) -> None:
        """
        Args:
            model: what `open_language_model` takes: a local model, or `http://HOST:PORT/v1#MODEL`.
            votes: how often a list, or a pair, is asked about; even, so that each order is turned round once.
            by: all candidates in one list, or two by two.
            level: what the candidates are: traces, next steps, claims, or documents (answers).
            reasons: none; after the verdict, which they cannot change any more; or before it, in each vote.
            reason_tokens: how long reasons may be.
            seed: of fences, orders, and reasons that are drawn before.
            api_key_env: of a server, the environment variable that holds its key.
        """
        one_of("by", by, By)
        one_of("level", level, Level)
        self._votes = even_votes(votes, "Half of them ask in the opposite order")
        self._seed = whole_number("The seed", seed)
        self._asker = asker_of(self.name, model, api_key_env, reasons, reason_tokens)
        self._by: By = by
        self._level: Level = level
        self._arguments = {
            "model": model if isinstance(model, str) else model.name,
            "votes": votes,
            "by": by,
            "level": level,
            "reasons": reasons,
            "reason_tokens": reason_tokens,
            "seed": seed,
            "api_key_env": api_key_env,
        }

    @property
    def granularity(self) -> Granularity:
        return wording.granularity(self._level)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self._arguments

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"model": self._asker.model.identity, "prompt": digest([*asking.PROMPTS, *wording.PROMPTS])}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        members: dict[str | None, list[int]] = {}
        for place, subject in enumerate(subjects):
            members.setdefault(subject.group, []).append(place)
        verdicts: dict[int, Verdict] = {}
        asked: list[_Asked] = []
        for places in members.values():
            group = [subjects[place] for place in places]
            reason = self._nothing_to_ask(group)
            if reason:
                verdicts |= {place: abstention(self, subjects[place], reason=reason) for place in places}
            else:
                asked.append(self._asked(places, group))
        for each, found in zip(asked, self._results(asked), strict=True):
            judged = [(place, subjects[place]) for place in each.places]
            if isinstance(found, ModelError):
                error = ErrorEvidence(type=type(found).__name__, message=found.message[:2000])
                verdicts |= {at: error_verdict(self, one, reason="model_failed", error=error) for at, one in judged}
            else:
                verdicts |= {at: self._verdict(one, each, found, first=at == each.places[0]) for at, one in judged}
        return [verdicts[place] for place in range(len(subjects))]

    def _nothing_to_ask(self, group: Sequence[Subject]) -> str:
        """Why a group is not asked about; empty where it is."""
        texts = [subject.text for subject in group]
        name = group[0].group
        if name is None:
            return "no_group"
        if not all(is_text(text) for text in (*texts, group[0].problem, *group[0].context)):
            return "unreadable_text"
        if name.startswith(_WHOLE) and name != whole_group(texts):
            return "group_not_whole"
        if len({(subject.problem, subject.context) for subject in group}) > 1:
            return "group_of_several_problems"
        different = len({text.strip() for text in texts} - {""})
        if different < 2:
            return "nothing_to_compare"
        return "too_many_candidates" if different > MOST[self._by] else ""

    def _asked(self, places: Sequence[int], group: Sequence[Subject]) -> _Asked:
        texts = tuple(sorted({subject.text.strip() for subject in group} - {""}))
        blocks = wording.premises(group[0], self._level, "correct", reference=False)
        found = ballots(blocks, texts, by=self._by, level=self._level, votes=self._votes, seed=self._seed)
        return _Asked(tuple(places), texts, tuple(found))

    def _results(self, asked: Sequence[_Asked]) -> list[Result | ModelError]:
        """What the groups' ballots come to. All are asked in one batch; where that fails, group by group, so that a
        failure is one group's and the whole group's: were it raised, the group would be tried again in halves."""
        try:
            replies = iter(self._asker.ask([ballot.question for each in asked for ballot in each.ballots]))
        except ModelError as error:
            if len(asked) == 1:
                return [error]
            return [found for each in asked for found in self._results([each])]
        return [self._result(each, [next(replies) for _ in each.ballots]) for each in asked]

    def _result(self, asked: _Asked, replies: Sequence[Reply]) -> Result:
        counted = [count(*each) for each in zip(asked.ballots, replies, strict=True)]
        found = result(counted, len(asked.texts), summed([reply.cost for reply in replies]))
        if self._asker.reasons != "after" or found.winner is None:
            return found
        ballot = next(each.ballot for each in counted if each.said == found.winner)
        letter = ballot.labels[ballot.order.index(found.winner)]
        ((reasons, cost),) = self._asker.explained([(ballot.question, letter)])
        return replace(found, reasons=reasons, cost=summed([found.cost, cost]))

    def _verdict(self, subject: Subject, asked: _Asked, found: Result, *, first: bool) -> Verdict:
        text = subject.text.strip()
        if not text:
            return abstention(self, subject, reason=f"empty_{self._level}")
        place = asked.texts.index(text)
        won = place == found.winner
        raw: dict[str, Any] = {
            "group": subject.group,
            "candidate": place,
            "votes": [each.told for each in found.counted if place in each.ballot.order],
        }
        return Verdict(
            subject=subject.key,
            verifier=identity(self),
            proposition=self.proposition,
            outcome=Outcome.ABSTAIN if found.winner is None else Outcome.ACCEPT if won else Outcome.REJECT,
            score=None if found.winner is None else found.scores[place],
            guarantee=self.guarantee,
            reason=found.reason if found.winner is None or won else "another_named_best",
            evidence=(found.votes,),
            cost=found.cost if first else FREE,
            raw=raw | ({"reasons": found.reasons} if found.reasons else {}),
        )


@dataclass(frozen=True)
class _Asked:
    """A group that is asked about."""

    places: tuple[int, ...]
    """Of its subjects, among those of the call."""
    texts: tuple[str, ...]
    """Its candidates, in an order that does not depend on how they came; those with the same text are one."""
    ballots: tuple[Ballot, ...]
