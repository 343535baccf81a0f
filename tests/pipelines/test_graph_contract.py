"""What every step-level graph owes its users: it runs alone, in parts, in batches, inside others, and after a pause."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph

from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.glimp_router import create_glimp_router
from draftproof.pipelines.spec_reason import create_spec_reason
from draftproof.pipelines.step_state import StepOutput, StepSettings
from tests.pipelines.graphs import GRAPHS, INPUT, Build
from tests.pipelines.scripted import Log, ScriptedJudge, ScriptedModel, steps

LONG: dict[str, Any] = {
    "glimp-router": lambda *models: create_glimp_router(*models, log=Log()),
    "spec-reason": lambda *models: create_spec_reason(*models, log=Log()),
    "rsd": lambda *models: create_arbitrage(*models, log=Log(), verifier=ScriptedJudge(lambda subject: 0.0)),
    "oracle": lambda *models: create_arbitrage(
        *models, log=Log(), policy="oracle", verifier=ScriptedJudge(lambda subject: 0.0)
    ),
}

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@pytest.fixture(params=list(GRAPHS))
def build(request: pytest.FixtureRequest) -> Build:
    return GRAPHS[request.param]


@pytest.fixture
def expected(build: Build) -> Any:
    return build(Log()).compile().invoke(INPUT)


def test_the_output_is_what_is_promised(expected: Any) -> None:
    assert set(expected) == StepOutput.__required_keys__
    assert expected["finish"] == "end"
    assert (expected["id"], expected["reference_answer"], expected["attempt"]) == ("sum", "3", 0)


def test_the_same_problem_takes_the_same_course(build: Build, expected: Any) -> None:
    assert untimed(build(Log()).compile().invoke(INPUT)) == untimed(expected)


def test_a_stream_shows_each_node(build: Build, expected: Any) -> None:
    graph = build(Log()).compile()
    parts = list(graph.stream(INPUT, stream_mode="updates"))
    assert next(iter(parts[0])) == "open"
    assert next(iter(parts[-1])) == "close"
    assert untimed(parts[-1]["close"]) == untimed(expected) | {"candidates": {}, "route": None}
    *_, last = graph.stream(INPUT, stream_mode="values")
    assert untimed(last) == untimed(expected) | {"candidates": {}, "route": None, "phase": "answer", "stop": "end"}


def test_a_batch_is_each_by_itself(build: Build, expected: Any) -> None:
    log = Log()
    outputs = build(log).compile().batch([INPUT, {"problem": "And 2+2?"}, INPUT])
    assert [untimed(outputs[0]), untimed(outputs[2])] == [untimed(expected)] * 2
    assert outputs[1]["opening"] != outputs[0]["opening"]
    assert {verdict.subject.trace_digest for verdict in log} == {output["opening"] for output in outputs}


@pytest.mark.parametrize("way", ["batch", "batch_as_completed", "abatch", "invoke"])
@pytest.mark.parametrize("name", ["glimp-router", "spec-reason", "rsd", "oracle"])
def test_a_long_text_is_not_ended_early(name: str, way: str) -> None:
    """LangChain's `batch` would end each run after 25 nodes, which is five to eight steps."""
    plan = steps(*(f"Step {number}." for number in range(29)), "The answer is 3.")
    graph = LONG[name](ScriptedModel(plan, "draft"), ScriptedModel(plan, "target", top=(("7", 1.0),)))
    given = [INPUT, {"problem": "And 2+2?"}]
    outputs = {
        "batch": lambda: graph.batch(given),
        "batch_as_completed": lambda: [output for _, output in graph.batch_as_completed(given)],
        "abatch": lambda: asyncio.run(graph.abatch(given)),
        "invoke": lambda: [graph.invoke(each) for each in given],
    }[way]()
    assert [(len(output["steps"]), output["finish"]) for output in outputs] == [(30, "end")] * 2


def test_there_is_room_for_as_many_steps_as_the_settings_allow() -> None:
    """Every draft is thrown away, so each step takes all the nodes that there are."""
    plan = steps(*(f"Step {number}." for number in range(300)), "The answer is 3.")
    judge = ScriptedJudge(lambda subject: 0.0)
    graph: Any = create_arbitrage(
        ScriptedModel(plan[:-1], "draft"), ScriptedModel(plan, "target"), log=Log(), verifier=judge,
        settings=StepSettings(max_steps=400, thinking_tokens=10**6),
    )  # fmt: skip
    (output,) = graph.batch([INPUT])
    assert (len(output["steps"]), output["finish"]) == (301, "end")


def test_what_create_gives_keeps_its_name_and_its_checkpoints() -> None:
    plan = steps(*(f"Step {number}." for number in range(29)), "The answer is 3.")
    graph = create_glimp_router(
        ScriptedModel(plan, "draft"),
        ScriptedModel(plan, "target"),
        log=Log(),
        checkpointer=strict_saver(),
        interrupt_before=["close"],
    )
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.batch([INPUT], [config])  # type: ignore[list-item]
    assert graph.get_state(config).next == ("close",)
    assert graph.name == "glimp_router"
    assert graph.invoke(None, config)["finish"] == "end"


def test_it_can_be_awaited(build: Build, expected: Any) -> None:
    assert untimed(asyncio.run(build(Log()).compile().ainvoke(INPUT))) == untimed(expected)


def test_it_is_a_part_of_other_graphs(build: Build, expected: Any) -> None:
    class Outer(TypedDict, total=False):
        problem: str
        id: str
        reference_answer: str
        answer: str
        finish: str
        words: int

    def count(state: Outer) -> Outer:
        return {"words": len(state["answer"].split())}

    outer = StateGraph(Outer)
    outer.add_node("solve", build(Log()).compile())
    outer.add_node("count", count)
    outer.add_edge(START, "solve")
    outer.add_edge("solve", "count")
    outer.add_edge("count", END)
    result = outer.compile().invoke(INPUT)  # type: ignore[call-overload]
    assert result["answer"] == expected["answer"]
    assert result["words"] == len(expected["answer"].split())


def test_it_pauses_anywhere_and_goes_on(build: Build, expected: Any) -> None:
    """With the user's checkpointer, before every node in turn; nothing is written, asked or logged twice."""
    log = Log()
    graph = build(log).compile(strict_saver(), interrupt_before="*")
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke(INPUT, config)
    pauses = 0
    while graph.get_state(config).next:
        state = graph.get_state(config).values
        assert json.loads(json.dumps(state, allow_nan=False)) == state
        result = graph.invoke(None, config)
        pauses += 1
    assert pauses > len(expected["steps"])
    assert untimed(result) == untimed(expected)
    keys = [(verdict.subject, verdict.verifier, verdict.sample) for verdict in log]
    assert len(set(keys)) == len(keys)


def test_a_thread_can_be_used_again(build: Build, expected: Any) -> None:
    graph = build(Log()).compile(strict_saver())
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke({"problem": "And 2+2?"}, config)
    again = graph.invoke(INPUT, config)
    assert untimed(again) == untimed(expected)


def test_the_output_is_plain_json(expected: Any) -> None:
    assert json.loads(json.dumps(expected, allow_nan=False)) == expected
    serde = strict_serde()
    assert serde.loads_typed(serde.dumps_typed(expected)) == expected


def test_checkpoints_in_a_file(tmp_path: Path) -> None:
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite")
    build = GRAPHS["glimp-router"]
    expected = build(Log()).compile().invoke(INPUT)  # type: ignore[call-overload]
    config: Any = {"configurable": {"thread_id": "1"}}
    with sqlite.SqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
        build(Log()).compile(saver, interrupt_before=["append"]).invoke(INPUT, config)
    with sqlite.SqliteSaver.from_conn_string(str(tmp_path / "a.db")) as saver:
        assert untimed(build(Log()).compile(saver).invoke(None, config)) == untimed(expected)


@pytest.mark.parametrize("name", ["arbitrage-rsd", "arbitrage-oracle", "glimp-router", "spec-reason"])
def test_the_picture_in_the_docs_is_the_graphs(name: str, checkout: Path) -> None:
    """Drawn anew where it has changed, and then this fails once, so that the change is seen."""
    file = checkout / "docs" / "pictures" / f"{name}.mmd"
    drawn = GRAPHS[name](Log()).compile().get_graph().draw_mermaid()
    before = file.read_text(encoding="utf-8") if file.exists() else None
    if before != drawn:
        file.write_text(drawn, encoding="utf-8")
    assert before == drawn, f"{file} was drawn anew"


def test_policies_that_decide_alike_are_one_graph() -> None:
    drawn = {name: GRAPHS[name](Log()).compile().get_graph().draw_mermaid() for name in GRAPHS}
    assert drawn["arbitrage-rsd"] == drawn["arbitrage-router"] != drawn["arbitrage-oracle"]
    assert drawn["arbitrage-oracle"] == drawn["arbitrage-collect"]


def strict_serde() -> JsonPlusSerializer:
    """LangGraph's strict mode: what is no plain value does not come back."""
    return JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)


def strict_saver() -> InMemorySaver:
    return InMemorySaver(serde=strict_serde())


def untimed(output: Any) -> dict[str, Any]:
    """Without how long verifiers took, which is never the same twice."""
    routes = [step["route"] for step in output["steps"]]
    kept = {key: value for key, value in output.items() if key != "seconds"}
    return kept | {
        "steps": [
            step | {"route": route and {**route, "seconds": 0.0}}
            for step, route in zip(output["steps"], routes, strict=True)
        ]
    }
