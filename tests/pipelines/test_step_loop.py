"""Steps as one model writes them: where they end, what they cost, and when the text is over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import InputError, UsageError
from draftproof.language_model import GREEDY, Context, Decoding, Message, Request
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.step_features import step_features
from draftproof.pipelines.step_state import StepOutput, StepSettings
from tests.pipelines.scripted import Log, ScriptedModel, steps

PLAN = steps("So 1+1=2.", "So 2+1=3.", "The answer is 3.")


def write(model: ScriptedModel, log: Log | None = None, attempt: int = 0, **how: Any) -> StepOutput:
    """What `model` writes by itself."""
    decoding = how.pop("decoding", GREEDY)
    graph = create_arbitrage(
        model,
        ScriptedModel([], "never-asked"),
        policy="draft-only",
        log=Log() if log is None else log,
        settings=StepSettings(**how),
        decoding=decoding,
    )
    return graph.invoke({"problem": "What is 1+1+1?", "attempt": attempt})  # type: ignore[return-value]


def test_steps_are_verbatim_and_end_for_different_causes() -> None:
    output = write(ScriptedModel(PLAN))
    assert [step["text"] for step in output["steps"]] == PLAN
    assert [step["cause"] for step in output["steps"]] == ["stop", "stop", "end"]
    assert output["finish"] == "end"
    assert output["text"] == "".join(PLAN), "no separator is added behind the end"
    assert output["answer"] == "The answer is 3."


@pytest.mark.parametrize(
    ("plan", "finish", "texts"),
    [
        pytest.param(["a\n\n", ""], "end", ["a\n\n", ""], id="ends-behind-a-separator-with-an-empty-step"),
        pytest.param(["", ""], "end", [""], id="says-nothing"),
        pytest.param(["a\n\n"] * 5, "repeat", ["a\n\n"] * 2, id="the-same-step-twice"),
        pytest.param(["a\n\n", "b\n\n"] * 3, "repeat", ["a\n\n", "b\n\n"] * 2, id="two-steps-in-turn"),
        pytest.param(["\n\n"] * 5, "repeat", ["\n\n"] * 2, id="nothing-but-separators"),
        pytest.param(["a a a a a a a a"], "end", ["a a a a a a a a"], id="repeats-within-a-step-are-none"),
        pytest.param(["a\n\n", "b\n\n", "a\n\nc"], "end", ["a\n\n", "b\n\n", "a\n\n", "c"], id="one-comes-back"),
        pytest.param(["\n\na"], "end", ["\n\n", "a"], id="begins-with-a-separator"),
        pytest.param(["a\n\n\nb"], "end", ["a\n\n", "\nb"], id="three-newlines"),
    ],
)  # fmt: skip
def test_how_a_text_ends(plan: list[str], finish: str, texts: list[str]) -> None:
    output = write(ScriptedModel(plan))
    assert output["finish"] == finish
    assert [step["text"] for step in output["steps"]] == texts


def test_a_step_that_is_too_long_is_cut_kept_and_goes_on() -> None:
    output = write(ScriptedModel(["abcdefgh\n\nij"]), max_step_tokens=4)
    assert [step["text"] for step in output["steps"]] == ["abcd", "efgh", "\n\n", "ij"]
    assert [step["cause"] for step in output["steps"]] == ["length", "length", "stop", "end"]


def test_parts_of_one_step_that_are_alike_are_no_repetition() -> None:
    output = write(ScriptedModel(["aaaaaaaa\n\n", "b"]), max_step_tokens=2)
    assert (output["finish"], output["text"]) == ("end", "aaaaaaaa\n\nb")
    output = write(ScriptedModel(["abcd\n\n"] * 3), max_step_tokens=3)
    assert (output["finish"], output["text"]) == ("repeat", "abcd\n\n" * 2), "cut steps are compared whole"


def test_a_model_that_never_ends_a_step_is_stopped() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz" * 4
    output = write(ScriptedModel([letters]), max_step_tokens=5, max_steps=4)
    assert (output["finish"], output["text"]) == ("max_steps", letters[:20])
    output = write(ScriptedModel([letters]), max_step_tokens=5, thinking_tokens=12)
    assert (output["finish"], output["text"]) == ("budget", letters[:12])


def test_thinking_and_answer_have_budgets_of_their_own() -> None:
    plan = steps("abc", "The answer is", "a long story")
    output = write(ScriptedModel(plan), thinking_tokens=5, answer_tokens=20)
    assert output["finish"] == "budget", "the thinking is over its budget of 5 with its first step"
    assert output["text"] == "abc\n\n"
    output = write(ScriptedModel(plan), thinking_tokens=30, answer_tokens=20)
    assert [step["phase"] for step in output["steps"]] == ["thinking", "answer", "answer"]
    assert output["finish"] == "budget"
    assert output["answer"] == "The answer is\n\na lon"


def test_a_full_context_ends_the_text() -> None:
    output = write(ScriptedModel(PLAN, context_length=14))
    assert (output["finish"], output["text"]) == ("context", "".join(PLAN)[:14])
    log = Log()
    output = write(ScriptedModel(PLAN, context_length=11), log)
    assert (output["finish"], output["text"]) == ("context", PLAN[0])
    assert [verdict.reason for verdict in log] == ["written", "context_full", "context"]


def test_contexts_hold_the_writers_own_ids() -> None:
    model = ScriptedModel(PLAN)
    write(model)
    pieces = model.requests[2].context.written
    assert [piece.text for piece in pieces] == PLAN[:2]
    assert {piece.writer for piece in pieces} == {model.identity}
    assert pieces[0].ids == tuple(map(ord, PLAN[0]))


def test_a_system_message_comes_first() -> None:
    model = ScriptedModel(PLAN)
    write(model, system="Think in steps.")
    assert model.requests[0].context.messages == (
        Message("system", "Think in steps."),
        Message("user", "What is 1+1+1?"),
    )


def test_each_attempt_has_an_opening_and_draws_of_its_own() -> None:
    model = ScriptedModel(PLAN)
    decoding = Decoding(temperature=1.0, seed=5)
    openings = {write(model, attempt=attempt, decoding=decoding)["opening"] for attempt in (0, 1, 1)}
    assert len(openings) == 2
    assert {request.decoding for request in model.requests} == {decoding, replace(decoding, seed=6)}


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda c: replace(c, text="half \ud800", stopped_by="", cause=c.cause.END), id="no-text"),
        pytest.param(lambda c: replace(c, text="cut"), id="stop-string-taken-off"),
        pytest.param(lambda c: replace(c, tokens=-1), id="negative-tokens"),
        pytest.param(lambda c: replace(c, seconds=float("nan")), id="no-time"),
    ],
)
def test_a_model_that_breaks_the_protocol_is_an_error(broken: Any) -> None:
    log = Log()
    output = write(ScriptedModel(PLAN, answer=broken), log)
    assert (output["finish"], output["steps"]) == ("error", [])
    assert [verdict.outcome.value for verdict in log] == ["error", "error"]


# Models that think in tags


def think(model: ScriptedModel, **how: Any) -> StepOutput:
    return write(model, thinks=True, **how)


def test_the_answer_comes_behind_the_closing_tag() -> None:
    output = think(ScriptedModel(["<think>", "a\n\n", "b</think>", "\n\nIt is 3."]))
    assert [(step["phase"], step["text"]) for step in output["steps"]] == [
        ("thinking", "<think>a\n\n"), ("thinking", "b</think>"), ("answer", "\n\n"), ("answer", "It is 3."),
    ]  # fmt: skip
    assert output["answer"] == "\n\nIt is 3."


@pytest.mark.parametrize(
    ("plan", "how"),
    [
        pytest.param(["a\n\n", "a\n\n", "It is 3."], {}, id="repeat"),
        pytest.param(["a\n\n", "b\n\n", "It is 3."], {"thinking_tokens": 6}, id="budget"),
        pytest.param(["a\n\n", "b\n\n", "It is 3."], {"max_steps": 2}, id="steps"),
    ],
)
def test_thinking_without_end_is_closed_and_answered(plan: list[str], how: dict[str, Any]) -> None:
    log = Log()
    output = write(ScriptedModel([*plan[:2], "</think>\n\n", plan[2]]), log, thinks=True, **how)
    closing = output["steps"][2]
    assert (closing["role"], closing["text"], closing["tokens"]) == ("pipeline", "</think>\n\n", 0)
    assert (output["answer"], output["finish"]) == ("It is 3.", "end")
    assert len(log) == len(output["steps"]) + 1


def test_an_end_within_the_thinking_is_closed_and_answered() -> None:
    output = think(ScriptedModel(["a"]))
    assert [step["text"] for step in output["steps"][:2]] == ["a", "</think>\n\n"]
    assert output["steps"][2]["phase"] == "answer"


def test_a_stray_closing_tag_is_text() -> None:
    output = think(ScriptedModel(["a</think>", "b</think>\n\n", "c"]))
    assert [step["phase"] for step in output["steps"]] == ["thinking", "answer", "answer"]
    assert output["answer"] == "b</think>\n\nc"
    plain = write(ScriptedModel(["a</think>b\n\n", "c"]))
    assert [step["text"] for step in plain["steps"]] == ["a</think>b\n\n", "c"]


def test_a_closing_tag_that_is_cut_in_two_closes() -> None:
    output = think(ScriptedModel(["abc</think>It is 3."]), max_step_tokens=6)
    assert not any(step["role"] == "pipeline" for step in output["steps"])
    assert [step["phase"] for step in output["steps"]][:3] == ["thinking", "thinking", "answer"]


# Input and settings


@pytest.mark.parametrize("problem", ["", " \n", None, 7, ["a"], "half \ud800"])
def test_what_is_no_problem_is_refused(problem: Any) -> None:
    graph = create_arbitrage(ScriptedModel(PLAN), ScriptedModel(PLAN), policy="draft-only", log=Log())
    with pytest.raises(InputError, match="problem"):
        graph.invoke({"problem": problem})


@pytest.mark.parametrize("attempt", [-1, True, "1", 1.5])
def test_what_is_no_attempt_is_refused(attempt: Any) -> None:
    graph = create_arbitrage(ScriptedModel(PLAN), ScriptedModel(PLAN), policy="draft-only", log=Log())
    with pytest.raises(InputError, match="attempt"):
        graph.invoke({"problem": "1+1?", "attempt": attempt})


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_steps": 0},
        {"max_step_tokens": True},
        {"answer_tokens": 1.5},
        {"separator": ""},
        {"answer_begins": "("},
        {"thinks": 1},
        {"system": None},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        StepSettings(**wrong)


def test_features_are_those_of_the_completion() -> None:
    (completion,) = ScriptedModel(["ab"]).generate([Request(Context.of("?"), 10)])
    assert step_features(completion, []) == {
        "mean_logprob": -1.5,
        "min_logprob": -2.5,
        "first_entropy": 0.25,
        "mean_entropy": 0.5,
        "min_margin": 3.998,
        "tokens": 3.0,
        "position": 0.0,
        "escalated_share": 0.0,
    }
    silent = replace(completion, logprobs=(), entropies=(float("nan"), 1.0), margins=())
    assert step_features(silent, []) == {"tokens": 3.0, "position": 0.0, "escalated_share": 0.0}


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(alphabet="ab\n<>/think", max_size=60),
    step=st.integers(1, 12),
    budget=st.integers(1, 70),
    thinks=st.booleans(),
)
def test_nothing_is_lost_or_added(text: str, step: int, budget: int, thinks: bool) -> None:
    """Whatever a model says and however it is cut, the models' own steps are a beginning of what it would have said."""
    model = ScriptedModel([text])
    output = write(model, max_step_tokens=step, thinking_tokens=budget, answer_tokens=budget, thinks=thinks)
    closed = next((i for i, s in enumerate(output["steps"]) if s["role"] == "pipeline"), len(output["steps"]))
    assert text.startswith("".join(s["text"] for s in output["steps"][:closed]))
    assert all(0 < s["tokens"] <= step for s in output["steps"][:closed])
    for phase in ("thinking", "answer"):
        assert sum(s["tokens"] for s in output["steps"] if s["phase"] == phase) <= budget
    assert output["text"] == "".join(s["text"] for s in output["steps"])
