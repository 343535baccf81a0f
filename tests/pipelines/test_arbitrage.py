"""Who writes a step: by a reward, by a router, by the better score, or always the same."""

from __future__ import annotations

import math
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from draftproof.errors import UnknownNameError, UsageError
from draftproof.language_model import Ability
from draftproof.pipelines.arbitrage import POLICIES, create_arbitrage
from draftproof.pipelines.step_audit import finished_trace, opening_trace
from draftproof.pipelines.step_features import collected_rows
from draftproof.pipelines.step_state import StepOutput, StepSettings
from draftproof.subject import Granularity
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Proposition, RouteEvidence, StepEvidence
from draftproof.verifiers.arithmetic import ArithmeticVerifier
from tests.pipelines.scripted import Log, Scores, ScriptedJudge, ScriptedModel, by_text, steps

PROBLEM = "What is 1+1+1?"
DRAFT = steps("So 1+1=3.", "So 2+1=3.", "The answer is 3.")
TARGET = steps("Now 1+1=2.", "Now 2+1=3.", "The answer is 3.")


def run(
    policy: str = "rsd",
    scores: Scores | None = None,
    *,
    draft: ScriptedModel | None = None,
    target: ScriptedModel | None = None,
    log: Log | None = None,
    proposition: Proposition | None = None,
    **options: Any,
) -> StepOutput:
    told = proposition or (Proposition.TARGET_BETTER if policy == "router" else Proposition.CORRECT)
    graph = create_arbitrage(
        draft or ScriptedModel(DRAFT, "draft"),
        target or ScriptedModel(TARGET, "target"),
        policy=policy,
        log=Log() if log is None else log,
        verifier=ScriptedJudge(scores, told) if scores else None,
        **options,
    )
    return graph.invoke({"problem": PROBLEM})  # type: ignore[return-value]


def roles(output: StepOutput) -> list[str]:
    return [step["role"] for step in output["steps"]]


def reasons(output: StepOutput) -> list[str | None]:
    return [step["route"] and step["route"]["reason"] for step in output["steps"]]


def test_a_low_reward_gives_the_step_to_the_target() -> None:
    log = Log()
    output = run("rsd", by_text({"1+1": 0.2, "2+1": 0.9, "answer": 0.8}), log=log)
    assert roles(output) == ["target", "draft", "draft"]
    assert output["text"] == TARGET[0] + DRAFT[1] + DRAFT[2]
    discarded = output["steps"][0]["discarded"]
    assert discarded is not None
    assert (discarded["text"], discarded["score"]) == (DRAFT[0], 0.2)
    assert output["counts"] == {
        "draft_tokens_kept": len(DRAFT[1]) + len(DRAFT[2]) + 1,
        "draft_tokens_discarded": len(DRAFT[0]),
        "target_tokens": len(TARGET[0]),
        "target_tokens_discarded": 0,
        "draft_calls": 3,
        "target_calls": 1,
        "probe_calls": 0,
        "judge_calls": 3,
        "escalations": 1,
    }
    assert output["seconds"]["draft"] == 1.5
    assert (output["answer"], output["finish"]) == ("The answer is 3.", "end")


@pytest.mark.parametrize(
    ("policy", "score", "kept"),
    [("rsd", 0.7, True), ("rsd", 0.699, False), ("router", 0.5, True), ("router", 0.501, False)],
)
def test_a_draft_is_kept_at_equality(policy: str, score: float, kept: bool) -> None:
    assert roles(run(policy, lambda _: score)) == ["draft" if kept else "target"] * 3


@pytest.mark.parametrize("policy", ["rsd", "router"])
def test_a_step_that_is_kept_never_calls_the_target(policy: str) -> None:
    target = ScriptedModel(TARGET, "target")
    output = run(policy, lambda _: 1.0 if policy == "rsd" else 0.0, target=target)
    assert target.requests == []
    assert output["counts"]["target_calls"] == 0
    scores = by_text({"1+1": 0.0, "": 1.0}) if policy == "rsd" else by_text({"1+1": 1.0, "": 0.0})
    assert roles(run(policy, scores, target=target)) == ["target", "draft", "draft"]
    assert len(target.requests) == 1


@pytest.mark.parametrize(
    ("draft", "target", "threshold", "taken"),
    [
        pytest.param(0.5, 0.6, 0.0, "target", id="better"),
        pytest.param(0.6, 0.6, 0.0, "draft", id="tie"),
        pytest.param(0.6, 0.5, 0.0, "draft", id="worse"),
        pytest.param(0.25, 0.5, 0.25, "draft", id="better-by-the-threshold"),
        pytest.param(0.25, 0.75, 0.25, "target", id="better-by-more"),
    ],
)
def test_the_oracle_takes_the_target_where_it_is_better(
    draft: float, target: float, threshold: float, taken: str
) -> None:
    output = run("oracle", lambda s: draft if s.text.startswith("So") else target, threshold=threshold)
    assert output["steps"][0]["role"] == taken
    assert output["counts"]["judge_calls"] == 2 * len(output["steps"])


FAILING: list[Any] = [
    pytest.param(lambda _: None, "verifier_abstained_on_draft", id="abstains"),
    pytest.param(lambda _: math.nan, "verifier_failed_on_draft", id="nan"),
    pytest.param(lambda _: 1 / 0, "verifier_failed_on_draft", id="raises"),
]


@pytest.mark.parametrize(("scores", "reason"), FAILING)
@pytest.mark.parametrize(
    ("policy", "threshold"), [("rsd", 0.0), ("rsd", -math.inf), ("router", 1.0), ("router", math.inf), ("oracle", 1.0)]
)
def test_a_draft_that_nobody_could_judge_is_not_kept(
    policy: str, threshold: float, scores: Scores, reason: str
) -> None:
    """Whatever the threshold: it would have kept any score."""
    log = Log()
    output = run(policy, scores, threshold=threshold, log=log)
    assert roles(output) == ["target"] * 3
    assert reasons(output) == [reason] * 3
    assert {verdict.outcome for verdict in log.of(Granularity.ROUTE)} == {Outcome.ABSTAIN}


def test_part_of_a_step_is_judged_by_nobody_and_not_kept() -> None:
    """`12+3=15` is right, and the beginning of `12+3=155`: an exact verifier would accept the one and hear no claim in
    the rest."""
    log = Log()
    graph = create_arbitrage(
        ScriptedModel(steps("12+3=155.", "The answer is 155."), "draft"),
        ScriptedModel(steps("12+3=15.", "The answer is 15."), "target"),
        verifier=ArithmeticVerifier(),
        threshold=0.5,
        log=log,
        settings=StepSettings(max_step_tokens=7),
    )
    output: StepOutput = graph.invoke({"problem": PROBLEM})  # type: ignore[assignment,arg-type]
    assert roles(output)[:2] == ["target", "target"]
    assert output["text"].startswith("12+3=15.")
    told = [verdict for verdict in log.of(Granularity.STEP) if verdict.verifier.startswith("arithmetic")]
    assert {verdict.reason for verdict in told[:2]} == {"cut_at_limit"}
    assert {verdict.outcome for verdict in told[:2]} == {Outcome.ABSTAIN}


def test_a_score_beside_an_abstention_counts_for_nothing() -> None:
    class Unsure(ScriptedJudge):
        def check(self, subjects: Any) -> Any:
            return [v.model_copy(update={"outcome": Outcome.ABSTAIN}) for v in super().check(subjects)]

    graph = create_arbitrage(
        ScriptedModel(DRAFT, "draft"), ScriptedModel(TARGET, "target"), verifier=Unsure(lambda _: 1.0), log=Log()
    )
    assert roles(graph.invoke({"problem": PROBLEM})) == ["target"] * 3  # type: ignore[arg-type]


def test_a_target_that_nobody_could_judge_is_still_safer() -> None:
    output = run("oracle", lambda s: 1.0 if s.text.startswith("So") else None)
    assert reasons(output)[0] == "verifier_abstained_on_target"
    assert roles(output)[0] == "target"


def test_a_real_verifier_finds_the_wrong_step() -> None:
    graph = create_arbitrage(
        ScriptedModel(DRAFT, "draft"), ScriptedModel(TARGET, "target"), log=Log(), verifier=ArithmeticVerifier()
    )
    output = graph.invoke({"problem": PROBLEM})
    assert [step["route"]["reason"] for step in output["steps"]] == [
        "reward_below_threshold", "reward_reaches_threshold", "verifier_abstained_on_draft",
    ]  # fmt: skip


def test_a_router_sees_who_wrote_what_and_how_sure_the_draft_was() -> None:
    judge = ScriptedJudge(by_text({"1+1": 0.9, "": 0.1}), Proposition.TARGET_BETTER)
    draft, target = ScriptedModel(DRAFT, "draft"), ScriptedModel(TARGET, "target")
    create_arbitrage(draft, target, policy="router", verifier=judge, log=Log()).invoke({"problem": PROBLEM})
    last = judge.seen[-1]
    assert last.context == (TARGET[0], DRAFT[1])
    assert last.writers == ("target", "draft")
    assert last.pair == (draft.identity, target.identity)
    assert last.features["escalated_share"] == 0.5
    assert last.features["position"] == 2.0
    assert last.features["mean_logprob"] == pytest.approx(-0.5 - len(DRAFT[2]) / 2)
    assert last.text == DRAFT[2]


# Extremes


@pytest.mark.parametrize(
    ("policy", "threshold", "role"),
    [
        ("rsd", 0.0, "draft"), ("rsd", math.inf, "target"), ("router", 1.0, "draft"), ("router", -1.0, "target"),
        ("oracle", 1.0, "draft"), ("draft-only", None, "draft"), ("target-only", None, "target"),
    ],
)  # fmt: skip
def test_extremes_are_one_model_alone(policy: str, threshold: float | None, role: str) -> None:
    scores = None if threshold is None else (lambda s: 0.5)
    output = run(policy, scores, threshold=threshold)
    plan = DRAFT if role == "draft" else TARGET
    assert output["text"] == "".join(plan)
    assert [token for step in output["steps"] for token in step["ids"]] == list(map(ord, "".join(plan)))
    assert roles(output) == [role] * 3


# Collecting


def test_collecting_goes_on_with_the_better_step_and_keeps_both() -> None:
    scores = by_text({"1+1=3": 0.1, "1+1=2": 0.9, "So": 0.8, "Now": 0.5, "answer": 0.5})
    log = Log()
    output = run("collect", scores, log=log)
    assert roles(output) == ["target", "draft", "draft"]
    rows = collected_rows(output)
    assert [row["advantage"] for row in rows] == [pytest.approx(0.8), pytest.approx(-0.3), 0.0]
    assert [row["draft"] for row in rows] == DRAFT
    assert [row["target"] for row in rows] == TARGET
    assert rows[1]["context"] == [TARGET[0]]
    assert rows[1]["writers"] == ["target"]
    assert rows[1]["features"]["escalated_share"] == 1.0
    assert rows[0]["pair"] == ["draft#draft-weights", "target#target-weights"]
    assert rows[0]["scorer"].startswith("scripted-judge@1#")
    assert rows[0]["proposition"] == "correct"
    judged = [v for v in log.of(Granularity.STEP) if v.verifier.startswith("scripted-judge")]
    assert [(v.subject.position, v.sample, v.score) for v in judged] == [
        (0, 0, 0.1), (0, 1, 0.9), (1, 0, 0.8), (1, 1, 0.5), (2, 0, 0.5), (2, 1, 0.5),
    ]  # fmt: skip


def test_a_router_can_be_fitted_to_the_rows() -> None:
    from draftproof.verifiers.routers.rows import RouterRow

    output = run("collect", by_text({"So": 0.8, "": 0.5}))
    assert [RouterRow.model_validate(row).label for row in collected_rows(output)] == [0, 0, 0]


def test_steps_without_both_scores_are_no_rows() -> None:
    output = run("collect", by_text({"So": 0.8, "Now": None, "": 0.5}))
    assert [row["position"] for row in collected_rows(output)] == [2]
    assert collected_rows(run("rsd", lambda _: 0.1)) == []


# What is left behind


def test_every_verdict_is_there_before_it_is_acted_upon() -> None:
    log = Log()
    seen: list[list[str]] = []

    class Watching(ScriptedModel):
        def generate(self, requests: Any) -> Any:
            seen.append([verdict.reason or verdict.verifier.partition("@")[0] for verdict in log])
            return super().generate(requests)

    run("rsd", lambda _: 0.1, target=Watching(TARGET[-1:], "target"), draft=ScriptedModel(DRAFT[-1:], "draft"), log=log)
    assert seen == [["scripted-judge", "reward_below_threshold"]]


def test_what_is_logged_says_what_was_done() -> None:
    log = Log()
    output = run("rsd", by_text({"1+1": 0.2, "": 0.9}), log=log)
    assert {verdict.subject.trace_digest for verdict in log} == {output["opening"]}
    assert output["opening"] == opening_trace(PROBLEM, output["pipeline"]).digest
    route = log.of(Granularity.ROUTE)[0]
    assert route.evidence == (RouteEvidence(policy="rsd", to="target", score=0.2, threshold=0.7),)
    assert (route.proposition, route.outcome, route.lossless) == (Proposition.TARGET_BETTER, Outcome.ACCEPT, False)
    written = [v.evidence[0] for v in log.of(Granularity.STEP) if v.reason == "written" and v.subject.position == 0]
    assert [(e.role, e.text, e.kept) for e in written if isinstance(e, StepEvidence)] == [
        ("target", TARGET[0], True), ("draft", DRAFT[0], False),
    ]  # fmt: skip
    (closed,) = log.of(Granularity.TRACE)
    assert (closed.proposition, closed.outcome, closed.reason) == (Proposition.COMPLETE, Outcome.ACCEPT, "end")
    keys = [(v.subject, v.verifier, v.sample) for v in log]
    assert len(set(keys)) == len(keys), "every verdict has a key of its own in the store"


def test_the_finished_trace_is_handed_over() -> None:
    traces: list[Trace] = []
    output = run("rsd", by_text({"1+1": 0.2, "": 0.9}), on_trace=traces.append)
    (trace,) = traces
    assert trace == finished_trace(output)
    assert trace.digest == output["trace"]
    assert [step.text for step in trace.steps] == [step["text"] for step in output["steps"]]
    assert (trace.segmentation, trace.final_answer) == ("written_steps@1", "3")
    assert trace.meta["roles"] == ["target", "draft", "draft"]
    assert trace.meta["opening"] == output["opening"]


def test_other_settings_open_another_trace() -> None:
    openings = {
        run(policy, scores, threshold=threshold, draft=ScriptedModel(DRAFT, name))["opening"]
        for policy, scores, threshold, name in [
            ("rsd", lambda _: 0.9, 0.7, "draft"),
            ("rsd", lambda _: 0.9, 0.8, "draft"),
            ("rsd", lambda _: 0.9, math.inf, "draft"),
            ("rsd", lambda _: 0.9, 0.7, "other"),
            ("oracle", lambda _: 0.9, 0.7, "draft"),
            ("draft-only", None, None, "draft"),
        ]
    }
    assert len(openings) == 6


# Failures


def test_a_target_that_fails_in_the_middle_loses_nothing() -> None:
    log = Log()
    output = run("rsd", by_text({"2+1": 0.1, "": 0.9}), target=ScriptedModel(TARGET, "target", fails_at=0), log=log)
    assert output["finish"] == "error"
    assert output["error"] == "target: ConnectionError: the server hung up"
    assert output["text"] == DRAFT[0]
    assert output["undecided"] is not None
    assert output["undecided"]["written"][0]["text"] == DRAFT[1]
    assert output["counts"]["draft_tokens_discarded"] == len(DRAFT[1])
    failed = [verdict for verdict in log if verdict.outcome is Outcome.ERROR]
    assert [(v.verifier.partition("@")[0], v.reason) for v in failed] == [
        ("target-writer", "model_failed"), ("arbitrage-rsd", "error"),
    ]  # fmt: skip


def test_a_log_that_fails_stops_everything() -> None:
    class Full(Log):
        def add(self, verdicts: Any) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run("rsd", lambda _: 0.9, log=Full())


# What does not fit together


def test_a_router_for_another_pair_is_refused() -> None:
    draft, target = ScriptedModel(DRAFT, "draft"), ScriptedModel(TARGET, "target")

    class Bound(ScriptedJudge):
        pair = ("renamed#draft-weights", "renamed#target-weights")
        needs = frozenset({Ability.LOGPROBS})

    router = Bound(lambda _: 0.1, Proposition.TARGET_BETTER)
    create_arbitrage(draft, target, policy="router", verifier=router, log=Log())
    with pytest.raises(UsageError, match="fitted for"):
        create_arbitrage(target, draft, policy="router", verifier=router, log=Log())
    dumb = ScriptedModel(DRAFT, "draft", abilities=frozenset())
    with pytest.raises(UsageError, match="log-probabilities"):
        create_arbitrage(dumb, target, policy="router", verifier=router, log=Log())


SCORER = ScriptedJudge(lambda _: 1.0)
ROUTER = ScriptedJudge(lambda _: 1.0, Proposition.TARGET_BETTER)
OF_TRACES = ScriptedJudge(lambda _: 1.0, granularity=Granularity.TRACE)


@pytest.mark.parametrize(
    ("policy", "judge", "options", "said"),
    [
        pytest.param("rsd", None, {}, "needs a verifier", id="no-scorer"),
        pytest.param("rsd", ROUTER, {}, "scores target_better", id="rsd-by-a-router"),
        pytest.param("router", SCORER, {}, "scores correct", id="router-by-a-scorer"),
        pytest.param("oracle", OF_TRACES, {}, "judges a trace", id="scorer-of-traces"),
        pytest.param("draft-only", SCORER, {}, "judges nothing", id="nothing-to-judge"),
        pytest.param("draft-only", None, {"threshold": 0.5}, "no threshold", id="nothing-to-compare"),
        pytest.param("rsd", SCORER, {"threshold": math.nan}, "not nan", id="nan"),
        pytest.param("rsd", SCORER, {"threshold": "0.7"}, "not '0.7'", id="a-text-for-a-number"),
        pytest.param("collect", SCORER, {"threshold": 0.1}, "no threshold", id="collecting-has-none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(policy: Any, judge: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        create_arbitrage(
            ScriptedModel(DRAFT), ScriptedModel(TARGET), policy=policy, verifier=judge, log=Log(), **options
        )


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="oracle"):
        create_arbitrage(ScriptedModel(DRAFT), ScriptedModel(TARGET), policy="best", log=Log())
    assert len(POLICIES) == 6


def test_collecting_needs_the_drafts_log_probabilities() -> None:
    silent = ScriptedModel(DRAFT, "server", abilities=frozenset({Ability.FIRST_TOKEN}))
    with pytest.raises(UsageError, match="server gives none"):
        create_arbitrage(
            silent, ScriptedModel(TARGET), policy="collect", verifier=ScriptedJudge(lambda _: 1.0), log=Log()
        )


class ToldOnly(ScriptedJudge):
    """Judges by what it is told while the step is written, as an uncertainty head without its model does."""

    needs_layers: tuple[int, ...] = ()
    needs_top = 0

    def knows(self, writer: str) -> bool:
        return writer.startswith("draft#")

    def offer(self, step: Any, completion: Any, *, writer: str) -> None:
        pass


class MadeOf(ScriptedJudge):
    parts: Any = ()


def test_a_checkpointer_is_refused_where_a_resumed_run_would_take_another_course() -> None:
    """What the verifier was told is in no checkpoint: another process would have nothing to judge by."""
    models = ScriptedModel(["a"], "draft"), ScriptedModel(["b"], "target")
    told = ToldOnly(lambda subject: 0.9)
    made = MadeOf(lambda subject: 0.9)
    made.parts = (ScriptedJudge(lambda subject: 0.9), told)
    for verifier in (told, made):
        with pytest.raises(UsageError, match="a checkpoint does not hold that"):
            create_arbitrage(*models, log=Log(), verifier=verifier, checkpointer=InMemorySaver())
        create_arbitrage(*models, log=Log(), verifier=verifier)
    reading = ToldOnly(lambda subject: 0.9, arguments={"model": "draft"})
    for allowed in (reading, ScriptedJudge(lambda subject: 0.9)):
        create_arbitrage(*models, log=Log(), verifier=allowed, checkpointer=InMemorySaver())
    others = ScriptedModel(["a"], "other"), ScriptedModel(["b"], "target")
    with pytest.raises(UsageError, match="internals of another model only"):
        create_arbitrage(*others, log=Log(), verifier=told)
    create_arbitrage(*others, log=Log(), verifier=reading)
    create_arbitrage(*models, log=Log(), policy="draft-only", checkpointer=InMemorySaver())
