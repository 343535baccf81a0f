"""Best of N: who wins, what is a tie, who has no vote, and what the figures beside it say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.errors import UnknownNameError, UsageError
from draftproof.language_model import Decoding
from draftproof.pipelines.answers import final_answer, normal_answer
from draftproof.pipelines.best_of_n import create_best_of_n
from draftproof.pipelines.candidate_choice import WAYS, choose
from draftproof.pipelines.step_state import StepSettings
from draftproof.pipelines.whole_texts import split_behind
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Outcome, Proposition, VotesEvidence
from tests.pipelines.scripted import Log
from tests.pipelines.solvers import Checker, Solver, holding

THREE, FOUR, NONE = "So 1+1+1=3.\n\nThe answer is 3.", "So 1+1+1=4.\n\nThe answer is 4.", "So 1+1+1 is what it is."
DOLLARS = "That is $3.\n\nThe answer is $3.00."
PROBLEM = {"problem": "What is 1+1+1?", "reference_answer": "3"}


def best(texts: list[str], log: Log | None = None, given: Any = PROBLEM, **options: Any) -> Any:
    model = options.pop("model", None) or Solver(texts, by="seed")
    options.setdefault("n", len(texts))
    return create_best_of_n(model, log=Log() if log is None else log, **options).invoke(given)


def verdicts_of_the_group(log: Log) -> list[Any]:
    return [verdict for verdict in log if verdict.proposition is Proposition.BEST_OF_GROUP]


def test_the_majority_wins_whatever_form_its_answers_have() -> None:
    log = Log()
    output = best([FOUR, THREE, DOLLARS, NONE], log)
    assert (output["winner"], output["text"], output["by"], output["reason"]) == (1, THREE, "vote", "majority")
    assert [each["answer"] for each in output["candidates"]] == ["4", "3", "3", None]
    assert [each["right"] for each in output["candidates"]] == [False, True, True, False]
    assert (output["pass_at_1"], output["majority"], output["pass_at_n"]) == (0.5, 1.0, 1.0)
    group = verdicts_of_the_group(log)
    assert [verdict.outcome.value for verdict in group] == ["reject", "accept", "reject", "abstain"]
    assert [verdict.score for verdict in group] == [0.25, 0.5, 0.5, None]
    assert [verdict.sample for verdict in group] == [0, 1, 2, 3]
    assert {verdict.raw["group"] for verdict in group} == {output["opening"]}
    (votes,) = [each for each in group[0].evidence if isinstance(each, VotesEvidence)]
    assert (votes.votes, votes.winner, votes.agreement) == (("4", "3", "3", ""), "3", 0.5)


def test_all_candidates_are_asked_for_in_one_batch_with_seeds_of_their_own() -> None:
    model = Solver([THREE, FOUR, THREE], by="seed")
    output = best([], model=model, n=3)
    assert model.batches == [3]
    assert [request.decoding.seed for request in model.requests] == [0, 1, 2]
    assert output["counts"]["target_calls"] == 3
    assert output["counts"]["target_tokens"] == len(THREE + FOUR + THREE) + 3
    assert output["counts"]["target_tokens_discarded"] == len(FOUR + THREE) + 2
    best([], model=model, n=3, given=PROBLEM | {"attempt": 2}, decoding=Decoding(0.5, seed=100))
    assert [request.decoding.seed for request in model.requests[3:]] == [106, 107, 108]


def test_the_best_score_of_a_whole_wins() -> None:
    log = Log()
    judge = Checker(holding({"=4": 0.9, "=3": 0.3}), Granularity.TRACE)
    output = best([THREE, FOUR, THREE], log, by="score", verifier=judge)
    assert (output["winner"], output["text"], output["reason"]) == (1, FOUR, "best_score")
    assert (output["pass_at_1"], output["majority"], output["pass_at_n"]) == (pytest.approx(2 / 3), 1.0, 1.0)
    assert judge.calls == [3]
    assert {subject.group for subject in judge.seen} == {output["opening"]}
    scored = [verdict for verdict in log if verdict.verifier.startswith("checker@")]
    assert [(verdict.sample, verdict.score) for verdict in scored] == [(0, 0.3), (1, 0.9), (2, 0.3)]
    keys = [(verdict.subject, verdict.verifier, verdict.sample) for verdict in log]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("aggregation", "winner", "score"),
    [("min", 1, 0.5), ("product", 0, 0.27), ("mean", 0, 0.6), ("last", 0, 0.9), ("first_error", 1, 1.0)],
)
def test_scores_of_steps_are_brought_together(aggregation: Any, winner: int, score: float) -> None:
    judge = Checker(holding({"risky": 0.3, "The answer is 3": 0.9, "": 0.5}))
    log = Log()
    output = best(
        ["risky\n\nThe answer is 3.", "safe\n\nThe answer is 4."], log, by="score", verifier=judge,
        aggregation=aggregation,
    )  # fmt: skip
    assert (output["winner"], output["candidates"][winner]["score"]) == (winner, pytest.approx(score))
    assert output["candidates"][0]["step_scores"] == [0.3, 0.9]
    assert judge.calls == [4]
    assert [subject.context for subject in judge.seen][1] == ("risky\n\n",)
    assert {v.subject.position for v in log if v.verifier.startswith("checker@")} == {0, 1}


def test_votes_may_weigh_their_scores() -> None:
    judge = Checker(holding({"=4": 0.9, "=3": 0.4, "That": None}), Granularity.TRACE)
    texts = [FOUR, THREE, THREE, DOLLARS]
    assert best(texts, by="weighted-vote", verifier=judge)["winner"] == 0
    more = best([*texts, THREE], by="weighted-vote", verifier=judge)
    assert (more["winner"], more["reason"]) == (1, "weighted_majority")
    log = Log()
    best([*texts, THREE], log, by="weighted-vote", verifier=judge)
    assert [verdict.score for verdict in verdicts_of_the_group(log)] == [
        pytest.approx(0.9 / 2.1), pytest.approx(1.2 / 2.1), pytest.approx(1.2 / 2.1), None, pytest.approx(1.2 / 2.1),
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["score", "weighted-vote"])
def test_where_nothing_is_scored_the_majority_decides_and_says_so(by: Any) -> None:
    def crash(subject: Subject) -> float:
        raise RuntimeError("down")

    for says in (holding({}, None), crash):
        log = Log()
        output = best([FOUR, THREE, THREE], log, by=by, verifier=Checker(says))
        assert (output["winner"], output["by"], output["reason"]) == (1, "vote", "nothing_scored_majority")
        assert {verdict.raw["asked_for"] for verdict in verdicts_of_the_group(log)} == {by}


def test_a_candidate_with_an_unscored_step_cannot_win_by_score() -> None:
    judge = Checker(holding({"So 1+1+1=4": None, "": 0.9, "=3": 0.2}))
    assert best([FOUR, THREE], by="score", verifier=judge)["winner"] == 1


def test_unreadable_answers_never_win_a_vote_and_where_there_is_no_other_nobody_wins() -> None:
    assert best([NONE, NONE, THREE])["winner"] == 2
    log = Log()
    output = best([NONE, "Nothing."], log)
    assert (output["winner"], output["reason"], output["text"]) == (None, "no_readable_answer", NONE)
    assert {verdict.outcome for verdict in verdicts_of_the_group(log)} == {Outcome.ABSTAIN}
    assert (output["pass_at_1"], output["majority"], output["pass_at_n"]) == (0.0, 0.0, 0.0)
    judge = Checker(holding({"what it is": 0.9, "": 0.1}), Granularity.TRACE)
    assert best([NONE, THREE], by="score", verifier=judge)["winner"] == 0, "by score, a text needs no stated answer"
    assert best([NONE, THREE], by="weighted-vote", verifier=judge)["winner"] == 1


def test_a_text_that_was_cut_off_has_no_vote() -> None:
    long = THREE + " " * 50
    output = best([long, FOUR, long], settings=StepSettings(thinking_tokens=30, answer_tokens=10))
    assert [each["finish"] for each in output["candidates"]] == ["budget", "end", "budget"]
    assert (output["winner"], output["finish"]) == (1, "end")


def test_a_text_that_was_cut_off_does_not_win_by_score_over_one_that_ended() -> None:
    long = "So 1+1+1=3." + " And so on." * 10
    judge = Checker(holding({"And so on": 0.9, "": 0.4}), Granularity.TRACE)
    short = StepSettings(thinking_tokens=30, answer_tokens=10)
    log = Log()
    output = best([long, FOUR, FOUR], log, by="score", verifier=judge, settings=short)
    assert [each["finish"] for each in output["candidates"]] == ["budget", "end", "end"]
    assert [each["score"] for each in output["candidates"]] == [0.9, 0.4, 0.4], "what was said of it is told"
    assert (output["winner"], output["finish"], output["by"]) == (1, "end", "score")
    assert [verdict.outcome.value for verdict in verdicts_of_the_group(log)] == ["abstain", "accept", "reject"]
    all_cut = best([long[:40], long], by="score", verifier=judge, settings=short)
    assert (all_cut["winner"], all_cut["by"], all_cut["finish"]) == (0, "score", "budget")
    nobody = Checker(holding({"And so on": 0.9}, None), Granularity.TRACE)
    unscored = best([long, FOUR, FOUR], by="score", verifier=nobody, settings=short)
    assert (unscored["winner"], unscored["reason"]) == (1, "nothing_scored_majority")


def test_a_verifier_of_groups_may_rank_the_candidates() -> None:
    judge = Checker(holding({"=4": 0.7}, 0.15), Granularity.TRACE, Proposition.BEST_OF_GROUP)
    assert best([THREE, FOUR], by="score", verifier=judge)["winner"] == 1


def test_only_what_was_taken_is_told_as_kept() -> None:
    log = Log()
    output = best([FOUR, THREE, THREE], log)
    kept = {(v.sample, e.kept) for v in log for e in v.evidence if e.kind == "step"}
    assert kept == {(0, False), (1, True), (2, False)}
    assert output["counts"]["judge_calls"] == 0


def test_without_a_reference_there_are_no_figures() -> None:
    output = best([THREE], given={"problem": "?"})
    assert (output["pass_at_1"], output["majority"], output["pass_at_n"]) == (None, None, None)
    assert output["candidates"][0]["right"] is None


def test_a_tie_between_right_and_wrong_is_half_a_majority() -> None:
    output = best([FOUR, THREE])
    assert (output["winner"], output["majority"]) == (0, 0.5)


def test_a_model_that_fails_ends_the_run_and_is_logged() -> None:
    log = Log()
    output = best([THREE], log, model=Solver([THREE], by="seed", fails_at=0), n=4)
    assert (output["finish"], output["steps"], output["candidates"], output["winner"]) == ("error", [], [], None)
    assert output["error"] == "model: ConnectionError: the server hung up"
    assert [verdict.outcome for verdict in log] == [Outcome.ERROR, Outcome.ERROR]
    full = best([THREE], model=Solver([THREE], by="seed", context_length=3), n=1)
    assert (full["finish"], full["reason"]) == ("context", "no_candidates")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"n": 0}, UsageError, "one candidate at least"),
        ({"n": 2.5}, UsageError, "not 2.5"),
        ({"n": 3, "decoding": Decoding()}, UsageError, "At temperature 0 all 3"),
        ({"by": "score"}, UsageError, "needs a verifier"),
        ({"by": "luck"}, UnknownNameError, "chosen by 'luck'"),
        ({"verifier": Checker(holding({}))}, UsageError, "A plain vote asks nobody"),
        ({"by": "score", "verifier": Checker(holding({})), "aggregation": "max"}, UnknownNameError, "'max'"),
        ({"by": "score", "verifier": Checker(holding({}), proposition=Proposition.EASY)}, UsageError, "it is easy"),
        (
            {"by": "score", "verifier": Checker(holding({}), proposition=Proposition.BEST_OF_GROUP)},
            UsageError,
            "of a step whether it is best_of_group",
        ),
    ],
)
def test_what_does_not_fit_is_told_when_the_graph_is_built(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        best([THREE], **options)


def test_one_candidate_may_be_greedy() -> None:
    assert best([THREE], n=1, decoding=Decoding())["winner"] == 0


# The choice itself

some_answers = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=7)
some_scores = st.none() | st.floats(0.0, 1.0)


@given(some_answers, st.data(), st.sampled_from(WAYS))
def test_a_winner_could_be_compared_and_none_beats_it(answers: list[str | None], data: Any, by: Any) -> None:
    scores = data.draw(st.lists(some_scores, min_size=len(answers), max_size=len(answers)))
    choice = choose(answers, scores, by)
    assert choice == choose(answers, scores, by)
    assert len(choice.shares) == len(answers)
    assert all(share is None or 0.0 <= share <= 1.0 + 1e-9 for share in choice.shares)
    if choice.winner is None:
        assert set(choice.shares) == {None}
        return
    won = choice.shares[choice.winner]
    assert won is not None
    assert won >= max(share for share in choice.shares if share is not None) - 1e-12
    if choice.by != "score":
        assert answers[choice.winner] is not None
    if choice.by != by:
        assert set(scores) == {None}


@pytest.mark.parametrize(
    ("answers", "scores", "by", "winner"),
    [
        pytest.param(["a", "b"], [None, None], "vote", 0, id="votes-the-first-drawn"),
        pytest.param(["b", "a", "a", "b"], [None] * 4, "vote", 0, id="votes-the-answer-drawn-first"),
        pytest.param(["a", "b", "b"], [0.5, 0.5, 0.5], "score", 1, id="scores-the-answer-with-more-votes"),
        pytest.param([None, "b"], [0.5, 0.5], "score", 1, id="scores-a-stated-answer-before-none"),
        pytest.param(["a", "b"], [0.5, 0.5], "score", 0, id="scores-the-first-drawn"),
        pytest.param(["a", "b", "b"], [0.5, 0.25, 0.25], "weighted-vote", 1, id="weights-the-answer-with-more-votes"),
        pytest.param(["a", "a", "b"], [0.1, 0.9, 0.2], "weighted-vote", 1, id="within-an-answer-the-best-scored"),
        pytest.param(["a", "b"], [0.0, 0.0], "weighted-vote", 0, id="no-weight-at-all"),
        pytest.param(["a", "b"], [None, 0.0], "score", 1, id="a-score-of-0-before-none"),
    ],
)
def test_ties(answers: list[str | None], scores: list[float | None], by: Any, winner: int) -> None:
    assert choose(answers, scores, by).winner == winner


# Answers and cuts


@pytest.mark.parametrize(
    "group",
    [
        ["42", "42.", "$42$", "\\$42", "42.0", "42 apples", "\\boxed{42}", "84/2", "**42**", "4.2 * 10"],
        ["1,200", "1200", "$1,200.00", "1 200"],
        ["1/2", "0.5", "\\frac{1}{2}", "\\dfrac12", "50%"],
        ["-3", "\\left(-3\\right)"],
        ["3\\sqrt{2}", "$3\\sqrt{2}$", "3 \\sqrt{2}"],
        ["Yes", "yes.", "\\text{Yes}"],
        ["(1, 2)", "(1,2)"],
    ],
)
def test_forms_of_one_answer(group: list[str]) -> None:
    assert len({normal_answer(each) for each in group}) == 1


def test_other_answers_are_others() -> None:
    answers = ["42", "-42", "0.33", "1/3", "50", "50%", "x+1", "x-1", "2 1/2", "(1,2)", "(2,1)", "no"]
    assert len({normal_answer(each) for each in answers}) == len(answers)
    assert normal_answer("  $ $ ") is None


def test_the_runner_counts_the_same_answers_as_right() -> None:
    """What wins a vote and what a run calls right are compared alike."""
    from draftproof.batch.solved import same_answer

    answers = [
        "42",
        "42 apples",
        "1,200",
        "$1200",
        "0.5",
        "1/2",
        "50%",
        "Yes",
        "\\text{yes}",
        "3\\pi",
        "x",
        "",
    ]
    for one in answers:
        for other in answers:
            key = normal_answer(one)
            assert same_answer(one, other) is (key is not None and key == normal_answer(other)), (one, other)


def test_the_last_stated_answer_counts() -> None:
    assert final_answer("The answer is 4.\n\nNo, the answer is 5.") == "5"
    assert final_answer("So we have 42 eggs.") is None


@given(st.text(st.sampled_from("ab \n`"), max_size=30))
def test_texts_are_cut_without_loss(text: str) -> None:
    pieces = split_behind(text, "\n\n")
    assert "".join(pieces) == text
    assert len(pieces) == 1 or all(piece.strip() for piece in pieces)
