"""The agreement gate: when the slow verifier is asked, and that no vote is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import UsageError
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict, VotesEvidence
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.combining.agreement import AgreementGate, Drawn, agreement_gate, votes_of
from tests.verifiers.combining.scripted import Log, Scripted, subjects


@dataclass(frozen=True)
class Voter:
    """Votes by the letters of its text, one a draw: a accepts, r rejects, 3 rejects at step 3, - is silent."""

    sample: int | None = None
    """Which draw; None counts the calls, as a server that samples by itself would."""
    word: int = 0
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.OPINION
    name: str = "voter"
    version: int = 1
    calls: list[int] = field(default_factory=list, compare=False)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"word": self.word}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        draw = len(self.calls) if self.sample is None else self.sample
        self.calls.append(len(subjects))
        return [self._verdict(subject, subject.text.split()[self.word][draw]) for subject in subjects]

    def _verdict(self, subject: Subject, letter: str) -> Verdict:
        outcome = {"a": Outcome.ACCEPT, "-": Outcome.ABSTAIN}.get(letter, Outcome.REJECT)
        return Verdict(
            subject=subject.key, verifier=identity(self), proposition=self.proposition, outcome=outcome,
            guarantee=self.guarantee, raw={"first_error": int(letter)} if letter.isdigit() else {},
        )  # fmt: skip


@dataclass(frozen=True)
class Seeded(Voter):
    """Says which draw it is, as a seeded verifier would."""

    def drawn(self, sample: int) -> Seeded:
        return replace(self, sample=sample)


def gate(k: int, tau: float, fast: Voter | None = None, log: Log | None = None) -> tuple[AgreementGate, Scripted, Log]:
    slow, kept = Scripted(column=1), log or Log()
    return agreement_gate(fast or Voter(), slow, k, tau, log=kept), slow, kept


def check(made: AgreementGate, *texts: str) -> list[Verdict]:
    return run_verifier(made, subjects(*texts), log=Log())


def votes(verdict: Verdict) -> VotesEvidence:
    (found,) = (item for item in verdict.evidence if isinstance(item, VotesEvidence))
    return found


def test_agreement_settles_and_doubt_asks_the_slow_one() -> None:
    made, slow, log = gate(4, 0.75)
    agreed, doubtful, unanimous = check(made, "aara 0.1", "aarr 0.1", "rrrr 0.9")
    assert (agreed.outcome, agreed.reason, votes(agreed).agreement) == (Outcome.ACCEPT, "fast_agreement", 0.75)
    assert (doubtful.outcome, doubtful.reason) == (Outcome.REJECT, "slow_reject")
    assert unanimous.outcome is Outcome.REJECT
    assert slow.asked == [1]
    assert (agreed.score, unanimous.score, doubtful.score) == (4 / 6, 1 / 6, 0.1)
    assert len(log.of(slow)) == 1


@pytest.mark.parametrize("fast", [Voter(), Seeded()])
def test_every_draw_is_logged_under_its_sample(fast: Voter) -> None:
    made, slow, log = gate(3, 1.0, replace(fast, calls=[]))
    (found,) = check(made, "ara 0.9")
    drawn = log.of(fast)
    assert [(v.sample, v.outcome.value) for v in drawn] == [(0, "accept"), (1, "reject"), (2, "accept")]
    assert [told["sample"] for told in found.raw["fast"]] == [0, 1, 2]
    assert votes(found).votes == ("accept", "reject", "accept")
    assert found.raw["slow"]["verifier"] == identity(slow)


def test_a_seeded_verifier_is_told_which_draw_it_is() -> None:
    assert isinstance(Seeded(), Drawn)
    assert not isinstance(Voter(), Drawn)

    class Changing(Seeded):
        def drawn(self, sample: int) -> Seeded:
            return Seeded(sample=sample, word=self.word + sample)

    made, _, _ = gate(2, 1.0, Changing())
    (found,) = check(made, "aa 0.9")
    assert found.outcome is Outcome.ERROR  # draws of two verifiers are no draws of one
    assert found.reason == "contract_violation"


def test_unread_draws_count_against_agreement() -> None:
    made, slow, _ = gate(4, 0.75)
    silent, enough = check(made, "aa-- 0.2", "aaa- 0.2")
    assert (silent.outcome, votes(silent).votes, votes(silent).agreement) == (
        Outcome.REJECT, ("accept", "accept", "", ""), 0.5,
    )  # fmt: skip
    assert enough.outcome is Outcome.ACCEPT
    (nothing,) = check(gate(2, 0.5)[0], "-- -")
    assert (nothing.outcome, nothing.score, votes(nothing).winner) == (Outcome.ABSTAIN, None, None)
    assert slow.asked == [1]


def test_first_errors_are_readings_of_their_own() -> None:
    made, slow, _ = gate(4, 0.75)
    apart, same = check(made, "2345 0.9", "2223 0.9")
    assert apart.outcome is Outcome.ACCEPT  # four rejections of four different steps agree on nothing
    assert (same.outcome, same.raw["first_error"]) == (Outcome.REJECT, 2)
    assert slow.asked == [1]


def test_a_tie_has_no_winner() -> None:
    tied = check(gate(2, 0.5)[0], "ar 0.9")[0]
    assert (votes(tied).winner, votes(tied).agreement, tied.reason) == (None, 0.5, "slow_accept")
    assert check(gate(2, 0.5)[0], "a- 0.1")[0].reason == "fast_agreement"


def test_a_slow_verifier_that_breaks_or_is_silent_is_an_abstention() -> None:
    made, _, _ = gate(2, 1.0)
    broken, silent = check(made, "ar !", "ar -")
    assert (broken.outcome, broken.reason, broken.score) == (Outcome.ABSTAIN, "slow_error", None)
    assert (silent.outcome, silent.reason) == (Outcome.ABSTAIN, "slow_abstain")


letters = st.text("ar-", min_size=3, max_size=3)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(letters, st.sampled_from(["0.1", "0.9", "-"])), min_size=1, max_size=5))
def test_the_extremes_are_the_two_verifiers(rows: list[tuple[str, str]]) -> None:
    texts = [" ".join(row) for row in rows]
    made, slow, _ = gate(0, 1.0)
    alone = run_verifier(slow, subjects(*texts), log=Log())
    assert [v.outcome for v in check(made, *texts)] == [v.outcome for v in alone]
    one, never, _ = gate(1, 1.0)
    fast = run_verifier(Voter(), subjects(*texts), log=Log())
    for ours, theirs in zip(check(one, *texts), fast, strict=True):
        if theirs.outcome is not Outcome.ABSTAIN:
            assert ours.outcome is theirs.outcome
    assert sum(never.asked) == sum(v.outcome is Outcome.ABSTAIN for v in fast)


@settings(deadline=None)
@given(st.lists(st.sampled_from("ar-"), min_size=1, max_size=9))
def test_the_vote_does_not_depend_on_its_order(drawn: list[str]) -> None:
    def vote(order: list[str]) -> tuple[Any, float]:
        voter = Voter(sample=0)
        found = votes_of([voter.check(subjects(letter))[0] for letter in order])
        assert len(found.votes) == len(drawn)
        return found.winner, found.agreement

    assert vote(drawn) == vote(sorted(drawn)) == vote(sorted(drawn, reverse=True))


@pytest.mark.parametrize(
    ("fast", "k", "tau"),
    [
        pytest.param(Voter(proposition=Proposition.COMPLETE), 3, 0.8, id="another-proposition"),
        pytest.param(Voter(granularity=Granularity.TRACE), 3, 0.8, id="another-granularity"),
        pytest.param(Voter(), -1, 0.8, id="negative-draws"),
        pytest.param(Voter(), 3, 0.4, id="a-minority"),
        pytest.param(Voter(), 3, 1.1, id="more-than-all"),
        pytest.param(Voter(), 3, float("nan"), id="nan"),
    ],
)
def test_what_makes_no_gate_is_refused(fast: Voter, k: int, tau: float) -> None:
    with pytest.raises(UsageError):
        gate(k, tau, fast)
