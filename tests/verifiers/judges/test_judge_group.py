"""Judging candidates against each other: places are turned round, and half a group is no group."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.errors import ModelError, UsageError
from draftproof.language_model import Ability, Context, FirstToken
from draftproof.pipelines.best_of_n import create_best_of_n
from draftproof.registry import create_verifier, listings
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.verdict import Outcome, Proposition, Verdict, VotesEvidence
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.judges.ballots import turned_round
from draftproof.verifiers.judges.judge_group import GroupJudgeVerifier, whole_group
from tests.pipelines.scripted import Log as PipelineLog
from tests.pipelines.solvers import Solver
from tests.verifiers.judges.reader import Asked, Top, read


class Log:
    def add(self, verdicts: Sequence[Verdict]) -> None:
        pass


def candidates(*texts: str, group: str | None = "", level: str = "trace", **given: Any) -> list[Subject]:
    named = whole_group(texts) if group == "" else group
    return [
        Subject(
            key=SubjectKey(trace_digest=f"sha256:{place:064}", granularity=Granularity(level), position=0),
            text=text, group=named, **({"problem": "Add 4 and 5."} | given),
        )
        for place, text in enumerate(texts)
    ]  # fmt: skip


def letters(question: str) -> dict[str, str]:
    return {title[10]: text for title, text in read(question).blocks if title.startswith("Candidate ")}


def prefers(better: Callable[[str], float]) -> Callable[[str], Top]:
    """Names the candidate for which `better` is largest, and gives the others the rest in equal parts."""

    def answer(question: str) -> Top:
        shown = letters(question)
        best = max(shown, key=lambda letter: better(shown[letter]))
        return tuple((letter, 0.7 if letter == best else 0.3 / (len(shown) - 1)) for letter in shown)

    return answer


def size(text: str) -> float:
    return float(re.findall(r"\d+", text)[0])


def judged(answer: Callable[[str], Top], subjects: Sequence[Subject], **arguments: Any) -> list[Verdict]:
    return GroupJudgeVerifier(Asked(answer), **arguments).check(subjects)


@pytest.mark.parametrize("by", ["list", "pairs"])
@pytest.mark.parametrize("texts", [("3", "1"), ("1", "3", "2"), ("5", "1", "4", "2", "3")])
def test_the_best_is_accepted_and_the_others_rejected_wherever_they_stand(by: str, texts: tuple[str, ...]) -> None:
    verdicts = judged(prefers(size), candidates(*texts), by=by)
    best = max(texts)
    for text, verdict in zip(texts, verdicts, strict=True):
        assert verdict.outcome is (Outcome.ACCEPT if text == best else Outcome.REJECT)
        assert verdict.reason == ("named_best" if text == best else "another_named_best")
        assert verdict.proposition is Proposition.BEST_OF_GROUP
    scores = [verdict.score or 0.0 for verdict in verdicts]
    assert sum(scores) == pytest.approx(1.0)
    assert max(scores) == scores[texts.index(best)]
    assert sum(verdict.cost.calls for verdict in verdicts) == len(texts) * (len(texts) - 1) if by == "pairs" else 2
    backwards = judged(prefers(size), candidates(*reversed(texts)), by=by)
    assert [verdict.outcome for verdict in backwards] == [verdict.outcome for verdict in reversed(verdicts)]


@pytest.mark.parametrize("by", ["list", "pairs"])
@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("votes", [2, 4])
def test_a_model_that_likes_a_place_is_not_heard(by: str, place: int, votes: int) -> None:
    """Nor one that likes the middle."""

    def answer(question: str) -> Top:
        shown = sorted(letters(question))
        return ((shown[min(place, len(shown) - 1)], 1.0),)

    for texts in ("12", "123", "1234", "12345"):
        verdicts = judged(answer, candidates(*texts), by=by, votes=votes)
        assert {(verdict.outcome, verdict.reason, verdict.score) for verdict in verdicts} == {
            (Outcome.ABSTAIN, "orders_disagree", None)
        }


@given(st.permutations(range(9)).flatmap(lambda order: st.integers(2, 9).map(lambda size: order[:size])))
def test_in_the_opposite_order_nobody_keeps_their_place(order: list[int]) -> None:
    turned = turned_round(order)
    assert sorted(turned) == sorted(order)
    assert all(one != other for one, other in zip(order, turned, strict=True))


def test_every_order_is_asked_the_other_way_round_too() -> None:
    model = Asked(prefers(size))
    GroupJudgeVerifier(model, votes=6).check(candidates("1", "2", "3", "4", "5"))
    orders = [list(letters(question).values()) for question in model.questions]
    for one, other in zip(orders[::2], orders[1::2], strict=True):
        assert (other[0], other[1], other[-1]) in ((one[4], one[2], one[0]), (one[4], one[3], one[0]))
        assert all(first != second for first, second in zip(one, other, strict=True))
    assert len({tuple(order) for order in orders}) == 6
    assert model.calls == 1
    fences = {question.partition("Problem:\n\n")[2].partition("\n")[0] for question in model.questions}
    assert len(fences) == 6


def test_votes_and_what_each_letter_stood_for_are_told() -> None:
    (first, second) = judged(prefers(size), candidates("1", "2"), votes=4)
    assert first.evidence == second.evidence == (VotesEvidence(votes=("1",) * 4, winner="1", agreement=1.0),)
    assert [vote["said"] for vote in first.raw["votes"]] == [1] * 4
    assert sorted(vote["order"] for vote in first.raw["votes"])[0] == [0, 1]
    assert (first.raw["candidate"], second.raw["candidate"]) == (0, 1)


def test_a_circle_has_no_best() -> None:
    """1 beats 2, 2 beats 3, 3 beats 1."""

    def answer(question: str) -> Top:
        shown = letters(question)
        one, other = sorted(shown.values())
        best = other if (one, other) == ("1", "3") else one
        return ((next(letter for letter, text in shown.items() if text == best), 1.0),)

    verdicts = judged(answer, candidates("1", "2", "3"), by="pairs")
    assert {(verdict.outcome, verdict.reason) for verdict in verdicts} == {(Outcome.ABSTAIN, "orders_disagree")}


def test_a_vote_that_cannot_be_read_counts_against_everybody() -> None:
    said = iter([(("1", 1.0),), (("A", 1.0),)])
    verdicts = judged(lambda _: next(said), candidates("1", "2"))
    assert {verdict.outcome for verdict in verdicts} == {Outcome.ABSTAIN}
    silent = judged(lambda _: (("Well", 1.0),), candidates("1", "2"))
    assert {verdict.reason for verdict in silent} == {"no_verdict_token"}
    unseen = judged(lambda _: (("A", 0.3),), candidates("1", "2"))
    assert {verdict.reason for verdict in unseen} == {"no_verdict_token"}


# Groups


def test_groups_are_judged_apart_in_one_batch() -> None:
    model = Asked(prefers(size))
    one, other = candidates("1", "2"), candidates("8", "9", "7")
    mixed = [other[0], one[0], other[1], one[1], other[2]]
    verdicts = GroupJudgeVerifier(model).check(mixed)
    assert [verdict.outcome.value for verdict in verdicts] == ["reject", "reject", "accept", "accept", "reject"]
    assert [verdict.subject for verdict in verdicts] == [subject.key for subject in mixed]
    assert model.calls == 1


@pytest.mark.parametrize(
    ("subjects", "reason"),
    [
        pytest.param(candidates("1", "2", "3")[:2], "group_not_whole", id="one is missing"),
        pytest.param(candidates("1", "2", group=whole_group(["1", "3"])), "group_not_whole", id="another one came"),
        pytest.param(candidates("1", "2", group=None), "no_group", id="no group"),
        pytest.param(candidates("1", "1", " 1"), "nothing_to_compare", id="all the same"),
        pytest.param(candidates("1", " "), "nothing_to_compare", id="nothing beside one"),
        pytest.param(candidates(*map(str, range(21))), "too_many_candidates", id="too many"),
        pytest.param(candidates("1", "\ud800", group="g"), "unreadable_text", id="no text"),
        pytest.param(
            [*candidates("1", group="g"), *candidates("2", group="g", problem="Add 1.")], "group_of_several_problems",
            id="two problems",
        ),
        pytest.param(candidates("1", "2" * 5000), "context_too_long", id="too long"),
    ],
)  # fmt: skip
def test_what_is_no_group_to_judge_is_abstained_from(subjects: list[Subject], reason: str) -> None:
    verdicts = run_verifier(GroupJudgeVerifier(Asked(prefers(size), longest=4000)), subjects, log=Log())
    assert {(verdict.outcome, verdict.reason, verdict.score) for verdict in verdicts} == {
        (Outcome.ABSTAIN, reason, None)
    }


def test_twelve_candidates_are_too_many_pairs_where_thirteen_come() -> None:
    assert judged(prefers(size), candidates(*map(str, range(1, 13))), by="pairs")[-1].reason != "too_many_candidates"
    assert judged(prefers(size), candidates(*map(str, range(13))), by="pairs")[0].reason == "too_many_candidates"


def test_equal_candidates_win_together_and_an_empty_one_is_no_candidate() -> None:
    verdicts = judged(prefers(size), candidates("2", "1", " 2\n", ""))
    assert [verdict.outcome.value for verdict in verdicts] == ["accept", "reject", "accept", "abstain"]
    assert verdicts[3].reason == "empty_trace"
    assert verdicts[0].score == verdicts[2].score


def test_candidates_may_be_next_steps_and_answers() -> None:
    model = Asked(prefers(size))
    verifier = GroupJudgeVerifier(model, level="step")
    verdicts = verifier.check(candidates("1", "2", level="step", context=("First.",)))
    assert [verdict.outcome.value for verdict in verdicts] == ["reject", "accept"]
    assert [title for title, _ in read(model.questions[0]).blocks] == [
        "Problem:", "Step 1:", "Candidate A:", "Candidate B:"
    ]  # fmt: skip
    assert GroupJudgeVerifier(model, level="document").granularity is Granularity.DOCUMENT


def test_it_chooses_for_a_pipeline_that_writes_candidates() -> None:
    texts = [f"So it is {number}.\n\nThe answer is {number}." for number in (3, 7, 5)]
    model, log = Asked(prefers(size)), PipelineLog()
    graph = create_best_of_n(Solver(texts, by="seed"), log=log, n=3, by="score", verifier=GroupJudgeVerifier(model))
    output = graph.invoke({"problem": "How many?"})
    assert (output["winner"], output["text"]) == (1, texts[1])
    judged = [verdict for verdict in log if verdict.verifier.startswith("judge-group@")]
    assert [(verdict.sample, verdict.outcome.value) for verdict in judged] == [
        (0, "reject"),
        (1, "accept"),
        (2, "reject"),
    ]
    undecided = GroupJudgeVerifier(Asked(lambda _: (("A", 1.0),)))
    graph = create_best_of_n(Solver(texts, by="seed"), log=PipelineLog(), n=3, by="score", verifier=undecided)
    assert graph.invoke({"problem": "How many?"})["reason"] == "nothing_scored_majority"


def test_a_failure_is_one_groups_and_never_half_of_it() -> None:
    """Were it raised, each half of the group would be judged as a group."""

    class Broken(Asked):
        def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
            if any("1000" in context.messages[-1].content for context in contexts):
                raise ModelError("gone")
            return super().first_token(contexts, top)

    given = [*candidates("1", "2", group="a"), *candidates("1000", "2", "3", group="b")]
    verdicts = run_verifier(GroupJudgeVerifier(Broken(prefers(size))), given, log=Log())
    assert [verdict.outcome.value for verdict in verdicts] == ["reject", "accept", "error", "error", "error"]
    assert {verdict.reason for verdict in verdicts[2:]} == {"model_failed"}


@pytest.mark.parametrize("reasons", ["before", "after"])
def test_reasons_are_kept(reasons: str) -> None:
    model = Asked(prefers(size), write=lambda request: "Because it is larger.")
    verdicts = GroupJudgeVerifier(model, reasons=reasons).check(candidates("1", "2"))  # type: ignore[arg-type]
    assert [verdict.outcome.value for verdict in verdicts] == ["reject", "accept"]
    if reasons == "after":
        assert verdicts[0].raw["reasons"] == "Because it is larger."
        assert model.requests[0].context.messages[1].content in "AB"
    else:
        assert verdicts[0].raw["votes"][0]["thoughts"] == "Because it is larger."
        assert len({request.decoding.seed for request in model.requests}) == 2


@pytest.mark.parametrize("wrong", [{"votes": 1}, {"by": "lot"}, {"level": "word"}, {"seed": "x"}, {"reasons": True}])
def test_arguments_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        GroupJudgeVerifier(Asked(prefers(size)), **wrong)


def test_a_model_that_tells_no_first_token_is_refused() -> None:
    with pytest.raises(UsageError, match="judge-group needs the distribution of the first token"):
        GroupJudgeVerifier(Asked(prefers(size), abilities=frozenset()))
    assert Ability.FIRST_TOKEN in Asked(prefers(size)).abilities


def test_it_is_listed_and_each_argument_is_part_of_its_identity() -> None:
    assert "judge-group" in listings()
    with pytest.raises(UsageError, match="votes=2"):
        create_verifier("judge-group", {"model": "pocket-target", "votes": 3})
    made = {
        identity(GroupJudgeVerifier(Asked(prefers(size)), **each))
        for each in ({}, {"votes": 4}, {"by": "pairs"}, {"level": "step"}, {"reasons": "after"}, {"seed": 1})
    }
    assert len(made) == 6


def test_a_group_is_named_by_what_is_in_it() -> None:
    assert whole_group(["a", "b"]) == whole_group(["b", "a"])
    assert len({whole_group(each) for each in (["a"], ["a", "a"], ["a", "b"], ["ab"])}) == 4
