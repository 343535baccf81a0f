"""The course of a text, told again from its verdicts alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftproof.errors import InputError
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.glimp_router import create_glimp_router
from draftproof.pipelines.replay import replay
from draftproof.pipelines.replay_rows import CUT_OFF
from draftproof.pipelines.step_features import collected_rows
from draftproof.pipelines.step_state import StepInput, StepSettings
from draftproof.store.queries import VerdictFilter
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity
from draftproof.verdict import StepEvidence, Verdict
from tests.pipelines.graphs import GRAPHS, INPUT, Build, draft, target
from tests.pipelines.scripted import Log, ScriptedJudge, ScriptedModel

GIVEN: StepInput = INPUT  # type: ignore[assignment]


@pytest.fixture(params=list(GRAPHS))
def build(request: pytest.FixtureRequest) -> Build:
    return GRAPHS[request.param]


def test_the_output_follows_from_the_verdicts(build: Build) -> None:
    log = Log()
    output = build(log).compile().invoke(INPUT)
    assert replay(log, GIVEN) == output
    random.Random(0).shuffle(log)
    assert replay(log, GIVEN) == output, "in any order"


def test_it_follows_from_a_store(build: Build, tmp_path: Path) -> None:
    """And running again adds nothing to it."""
    with VerdictStore.open(str(tmp_path / "v.db")) as store:
        run = store.begin_run("test")
        log = store.log(run.id)
        graph = build(log).compile()
        output = graph.invoke(INPUT)
        graph.invoke({"problem": "And 2+2?"})
        stored = [row.verdict for row in store.iter_verdicts(VerdictFilter(trace=output["opening"]))]
        assert replay(stored, GIVEN) == output
        everything = [row.verdict for row in store.iter_verdicts()]
        assert replay(everything, GIVEN) == output
        written = log.inserted
        graph.invoke(INPUT)
        assert (log.inserted, log.duplicates) == (written, len(stored))


@pytest.mark.parametrize("fails_at", [0, 1, 2])
@pytest.mark.parametrize("role", ["draft", "target"])
def test_a_failure_is_told_too(build: Build, role: str, fails_at: int) -> None:
    log = Log()
    models: dict[str, Any] = {role: (draft if role == "draft" else target)(fails_at=fails_at)}
    output = build(log, **models).compile().invoke(INPUT)
    assert replay(log, GIVEN) == output


@pytest.mark.parametrize("room", [5, 12, 25, 40])
def test_a_full_context_is_told_too(build: Build, room: int) -> None:
    log = Log()
    output = build(log, draft=draft(context_length=room)).compile().invoke(INPUT)
    assert replay(log, GIVEN) == output


def test_rows_for_routers_follow_from_the_verdicts() -> None:
    log = Log()
    output = GRAPHS["arbitrage-collect"](log).compile().invoke(INPUT)
    rows = collected_rows(replay(log, GIVEN))
    assert rows == collected_rows(output)  # type: ignore[arg-type]
    assert len(rows) == 3


def test_a_run_that_was_cut_off_gives_what_there_was(build: Build) -> None:
    log = Log()
    output = build(log).compile().invoke(INPUT)
    cut = [verdict for verdict in log if verdict.subject.granularity is not Granularity.TRACE]
    told = replay(cut, GIVEN)
    assert (told["finish"], told["error"]) == ("error", CUT_OFF)
    assert told["steps"] == output["steps"]


def test_a_missing_verdict_is_noticed(build: Build) -> None:
    log = Log()
    output = build(log).compile().invoke(INPUT)
    written = [v for v in log if v.evidence and isinstance(v.evidence[0], StepEvidence) and v.evidence[0].kept]
    assert len(written) == len(output["steps"])
    for missing in written:
        with pytest.raises(InputError):
            replay([verdict for verdict in log if verdict is not missing], GIVEN)


def test_a_changed_text_is_noticed(build: Build) -> None:
    log = Log()
    build(log).compile().invoke(INPUT)

    def forged(verdict: Verdict) -> Verdict:
        first = verdict.evidence[0] if verdict.evidence else None
        if not isinstance(first, StepEvidence) or not first.kept:
            return verdict
        return verdict.model_copy(update={"evidence": (first.model_copy(update={"text": "2+2=5"}),)})

    with pytest.raises(InputError, match="finished text"):
        replay([forged(verdict) for verdict in log], GIVEN)


def test_verdicts_of_another_problem_are_refused() -> None:
    log = Log()
    GRAPHS["glimp-router"](log).compile().invoke(INPUT)
    with pytest.raises(InputError, match="0 courses"):
        replay(log, {"problem": "And 2+2?"})
    with pytest.raises(InputError, match="0 courses"):
        replay([], GIVEN)
    GRAPHS["spec-reason"](log).compile().invoke(INPUT)
    with pytest.raises(InputError, match="2 courses"):
        replay(log, GIVEN)


def test_the_attempt_is_told_and_not_taken_on_trust() -> None:
    log = Log()
    output = GRAPHS["glimp-router"](log).compile().invoke(INPUT | {"attempt": 3})  # type: ignore[call-overload, operator]
    assert replay(log, {**GIVEN, "attempt": 3}) == output
    with pytest.raises(InputError, match="attempt 3"):
        replay(log, GIVEN)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda v: v.model_copy(update={"raw": {"pipeline": v.raw["pipeline"]}}), id="ids-are-missing"),
        pytest.param(lambda v: v.model_copy(update={"raw": v.raw | {"ids": None}}), id="ids-are-none"),
    ],
)
def test_verdicts_of_other_graphs_are_refused(change: Any) -> None:
    log = Log()
    GRAPHS["glimp-router"](log).compile().invoke(INPUT)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="no verdicts of a step-level graph"):
        replay([change(v) if v.reason == "written" else v for v in log], GIVEN)


TEXTS = st.lists(st.text(alphabet="ab=\n", max_size=6), max_size=5)


@settings(max_examples=30, deadline=None)
@given(
    plans=st.tuples(TEXTS, TEXTS),
    scores=st.lists(st.sampled_from([None, 0.0, 0.3, 0.7, 1.0, float("nan")]), min_size=1),
    entropies=st.lists(st.floats(0, 3), max_size=8),
    limits=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 20)),
    thinks=st.booleans(),
)
def test_whatever_happens_is_told_again(
    plans: tuple[list[str], list[str]],
    scores: Sequence[float | None],
    entropies: list[float],
    limits: tuple[int, int, int],
    thinks: bool,
) -> None:
    step, most, budget = limits
    how = StepSettings(
        max_step_tokens=step,
        max_steps=most,
        thinking_tokens=budget,
        answer_tokens=budget,
        thinks=thinks,
        answer_begins="=",
    )
    models = ScriptedModel(plans[0], "draft", entropies=entropies), ScriptedModel(plans[1], "target")
    judge = ScriptedJudge(lambda s: scores[(len(s.context) + len(s.text)) % len(scores)])
    for policy in ("rsd", "oracle", "glimpse"):
        log = Log()
        if policy == "glimpse":
            graph = create_glimp_router(*models, log=log, settings=how)
        else:
            graph = create_arbitrage(*models, log=log, policy=policy, verifier=judge, settings=how)  # type: ignore[arg-type]
        output = graph.invoke(INPUT)  # type: ignore[call-overload]
        assert replay(log, GIVEN) == output
