"""Compiled graphs that go through as many nodes as their settings allow, in a batch as well.

LangGraph ends a run that has gone through `recursion_limit` nodes. Its own default is thousands, but `batch` fills in
LangChain's, which is 25: eight steps of a text. A limit from the settings replaces either, unless the caller gives one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, TypeVar

from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer

from draftproof.pipelines.step_nodes import CompiledStepGraph, StepGraph
from draftproof.pipelines.step_state import StepSettings

NODES_A_STEP = 5
"""At most, of a graph over a draft and a target model: a probe, the draft, a decision, the target, appending."""
ENDS = 10
"""Room for what comes before the first step and behind the last."""

Graph = TypeVar("Graph", bound=CompiledStateGraph[Any, None, Any, Any])


class _LongGraph(CompiledStateGraph[Any, None, Any, Any]):
    """The four ways to run a batch, each with the graph's own limit."""

    def batch(self, inputs: Any, config: Any = None, **options: Any) -> Any:
        return super().batch(inputs, self._with_limit(config), **options)

    async def abatch(self, inputs: Any, config: Any = None, **options: Any) -> Any:
        return await super().abatch(inputs, self._with_limit(config), **options)

    def batch_as_completed(self, inputs: Any, config: Any = None, **options: Any) -> Iterator[Any]:
        return super().batch_as_completed(inputs, self._with_limit(config), **options)

    def abatch_as_completed(self, inputs: Any, config: Any = None, **options: Any) -> AsyncIterator[Any]:
        return super().abatch_as_completed(inputs, self._with_limit(config), **options)

    def _with_limit(self, config: Any) -> Any:
        limit = {"recursion_limit": (self.config or {})["recursion_limit"]}
        if isinstance(config, Sequence):
            return [{**limit, **(each or {})} for each in config]
        return {**limit, **(config or {})}


def for_long_runs(graph: Graph, nodes: int) -> Graph:
    """`graph` with room for `nodes` nodes in a run."""
    limited = graph.with_config(recursion_limit=nodes)
    # LangGraph has no place to say of what class a compiled graph is.
    limited.__class__ = _LongGraph  # type: ignore[assignment]
    return limited


def compiled_steps(
    graph: StepGraph,
    name: str,
    settings: StepSettings | None,
    checkpointer: Checkpointer,
    interrupt_before: Sequence[str],
) -> CompiledStepGraph:
    """`graph`, of a draft and a target model, ready to be invoked, however many steps `settings` allow."""
    compiled = graph.compile(checkpointer, interrupt_before=list(interrupt_before), name=name)
    steps = 2 * (settings or StepSettings()).max_steps  # of thinking and of the answer
    return for_long_runs(compiled, NODES_A_STEP * steps + ENDS)
