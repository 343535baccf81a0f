"""What graphs over whole solutions owe their users: alone, in parts, in batches, inside others, and after a pause."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph

from draftproof.pipelines.best_of_n import build_best_of_n
from draftproof.pipelines.candidate_state import BestOfNOutput
from draftproof.pipelines.completeness import CompletenessProbe
from draftproof.pipelines.solve_detect_verify import build_solve_detect_verify
from draftproof.pipelines.solve_state import SolveOutput
from draftproof.pipelines.step_audit import finished_trace, opening_trace
from draftproof.subject import Granularity
from draftproof.trace import Trace
from tests.pipelines.scripted import Log
from tests.pipelines.solvers import Checker, Solver, holding
from tests.pipelines.test_solve_detect_verify import RIGHT, WRONG

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")

INPUT = {"problem": "What is 1+1+1?", "id": "sum", "reference_answer": "3"}
HESITANT = "Now 1+1=2.\n\nThen 2+1=3. The answer is 3. Wait.\n\nNo, the answer is 4."

Build = Callable[..., Any]


def solve(log: Log, **options: Any) -> Any:
    solver = Solver([WRONG, HESITANT], yes=0.9)
    fast = Checker(holding({"1+1=3": 0.1}), name="fast")
    slow = Checker(holding({"1+1=3": 0.1}), name="slow")
    return build_solve_detect_verify(
        solver, log=log, fast=fast, slow=slow, k=2, detector=CompletenessProbe(solver), **options
    )


def solve_whole(log: Log, **options: Any) -> Any:
    fast = Checker(holding({"1+1=3": 0.1}), Granularity.TRACE)
    return build_solve_detect_verify(Solver([WRONG, RIGHT]), log=log, fast=fast, whole=True, **options)


def vote(log: Log, **options: Any) -> Any:
    return build_best_of_n(Solver([WRONG, RIGHT, RIGHT], by="seed"), log=log, n=3, **options)


def score(log: Log, **options: Any) -> Any:
    judge = Checker(holding({"1+1=3": 0.1}))
    solver = Solver([WRONG, RIGHT, RIGHT], by="seed")
    return build_best_of_n(solver, log=log, n=3, by="weighted-vote", verifier=judge, **options)


GRAPHS: dict[str, Build] = {
    "solve-detect-verify": solve,
    "solve-detect-verify-whole": solve_whole,
    "best-of-n-vote": vote,
    "best-of-n": score,
}


@pytest.fixture(params=list(GRAPHS))
def build(request: pytest.FixtureRequest) -> Build:
    return GRAPHS[request.param]


@pytest.fixture
def expected(build: Build) -> Any:
    return build(Log()).compile().invoke(INPUT)


def test_the_output_is_what_is_promised(build: Build, expected: Any) -> None:
    promised = SolveOutput if build in (solve, solve_whole) else BestOfNOutput
    assert set(expected) == promised.__required_keys__
    assert expected["finish"] == "end"
    assert (expected["id"], expected["reference_answer"], expected["attempt"]) == ("sum", "3", 0)
    assert "".join(step["text"] for step in expected["steps"]) == expected["text"]


def test_the_same_problem_takes_the_same_course(build: Build, expected: Any) -> None:
    assert untimed(build(Log()).compile().invoke(INPUT)) == untimed(expected)


def test_a_stream_shows_each_node(build: Build, expected: Any) -> None:
    parts = list(build(Log()).compile().stream(INPUT, stream_mode="updates"))
    assert next(iter(parts[0])) == "open"
    assert untimed(parts[-1]["close"]) == untimed(expected)


def test_a_batch_is_each_by_itself(build: Build, expected: Any) -> None:
    log = Log()
    outputs = build(log).compile().batch([INPUT, {"problem": "And 2+2?"}, INPUT])
    assert [untimed(outputs[0]), untimed(outputs[2])] == [untimed(expected)] * 2
    assert {verdict.subject.trace_digest for verdict in log} == {output["opening"] for output in outputs}


def test_it_can_be_awaited(build: Build, expected: Any) -> None:
    assert untimed(asyncio.run(build(Log()).compile().ainvoke(INPUT))) == untimed(expected)


def test_it_is_a_part_of_other_graphs(build: Build, expected: Any) -> None:
    class Outer(TypedDict, total=False):
        problem: str
        text: str
        words: int

    def count(state: Outer) -> Outer:
        return {"words": len(state["text"].split())}

    outer = StateGraph(Outer)
    outer.add_node("solve", build(Log()).compile())
    outer.add_node("count", count)
    outer.add_edge(START, "solve")
    outer.add_edge("solve", "count")
    outer.add_edge("count", END)
    result = outer.compile().invoke({"problem": INPUT["problem"]})  # type: ignore[call-overload]
    assert (result["text"], result["words"]) == (expected["text"], len(expected["text"].split()))


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
    assert pauses >= 3
    assert untimed(result) == untimed(expected)
    keys = [(verdict.subject, verdict.verifier, verdict.sample) for verdict in log]
    assert len(set(keys)) == len(keys)


def test_a_thread_can_be_used_again(build: Build, expected: Any) -> None:
    graph = build(Log()).compile(strict_saver())
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke({"problem": "And 2+2?"}, config)
    assert untimed(graph.invoke(INPUT, config)) == untimed(expected)


def test_the_output_is_plain_json(expected: Any) -> None:
    assert json.loads(json.dumps(expected, allow_nan=False)) == expected
    serde = strict_serde()
    assert serde.loads_typed(serde.dumps_typed(expected)) == expected


def test_verdicts_stand_under_the_opening_and_the_trace_is_handed_over(build: Build) -> None:
    log, traces = Log(), list[Trace]()
    output = build(log, on_trace=traces.append).compile().invoke(INPUT)
    assert output["opening"] == opening_trace(INPUT["problem"], output["pipeline"]).digest
    assert {verdict.subject.trace_digest for verdict in log} == {output["opening"]}
    assert [trace.digest for trace in traces] == [output["trace"]] == [finished_trace(output).digest]
    assert traces[0].reference_answer == "3"


def test_two_courses_of_a_problem_have_openings_of_their_own(build: Build, expected: Any) -> None:
    again = build(Log()).compile().invoke(INPUT | {"attempt": 1})
    assert again["opening"] != expected["opening"]


@pytest.mark.parametrize("given", [{"problem": ""}, {"problem": 3}, {"problem": "x", "attempt": -1}])
def test_what_is_no_problem_is_refused(build: Build, given: Any) -> None:
    from draftproof.errors import InputError

    with pytest.raises(InputError):
        build(Log()).compile().invoke(given)


@pytest.mark.parametrize("name", ["solve-detect-verify", "best-of-n"])
def test_the_picture_in_the_docs_is_the_graphs(name: str, checkout: Path) -> None:
    """Written anew where it has changed, and then this fails once, so that the change is seen."""
    file = checkout / "docs" / "pictures" / f"{name}.mmd"
    drawn = GRAPHS[name](Log()).compile().get_graph().draw_mermaid()
    before = file.read_text(encoding="utf-8") if file.exists() else None
    if before != drawn:
        file.write_text(drawn, encoding="utf-8")
    assert before == drawn, f"{file} was drawn anew"


def strict_serde() -> JsonPlusSerializer:
    """LangGraph's strict mode: what is no plain value does not come back."""
    return JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None)


def strict_saver() -> InMemorySaver:
    return InMemorySaver(serde=strict_serde())


def untimed(output: Any) -> dict[str, Any]:
    """Without how long verifiers took, which is never the same twice."""
    return {key: value for key, value in output.items() if key != "seconds"}
