"""The nodes that all step-level graphs share: open, write a step, append what was decided, close.

Each graph adds what is its own, the decision, and the edges. Nodes take the state and return what they change; models
and the verdict log belong to the nodes. A model that fails ends the text, with all that was written until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from langgraph.errors import GraphBubbleUp
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

from draftproof.errors import ContextLengthError, InputError
from draftproof.language_model import Decoding, LanguageModel
from draftproof.pipelines.step_audit import Audit, Pipeline, finished_trace, opening_trace
from draftproof.pipelines.step_internals import internals_wanted
from draftproof.pipelines.step_loop import Writer, after, closed_thinking, closing_step, phase_of
from draftproof.pipelines.step_output import output_of
from draftproof.pipelines.step_state import (
    ModelRole,
    Opening,
    StepInput,
    StepOutput,
    StepSettings,
    StepState,
    Undecided,
    WrittenStep,
)
from draftproof.trace import Trace
from draftproof.verdict import ErrorEvidence
from draftproof.verifier import VerdictLog, Verifier

Update = dict[str, Any]
"""What a node changes of the state."""


class Node(Protocol):
    def __call__(self, state: StepState) -> Update: ...


StepGraph = StateGraph[StepState, None, StepInput, StepOutput]
CompiledStepGraph = CompiledStateGraph[StepState, None, StepInput, StepOutput]


class StepNodes:
    """The shared nodes of one graph, over one pair of models."""

    def __init__(
        self,
        pipeline: Pipeline,
        draft: LanguageModel,
        target: LanguageModel,
        *,
        log: VerdictLog,
        settings: StepSettings,
        decoding: Decoding,
        verifier: str = "",
        proposition: str = "",
        internals: Verifier | None = None,
        on_trace: Callable[[Trace], None] | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.settings = settings
        self.audit = Audit(log)
        self._writers: dict[ModelRole, Writer] = {
            "draft": Writer("draft", draft, decoding, settings, internals_wanted(internals, draft.identity)),
            "target": Writer("target", target, decoding, settings, internals_wanted(internals, target.identity)),
        }
        self._verifier = verifier
        self._proposition = proposition
        self._on_trace = on_trace

    def graph(self) -> StepGraph:
        """A graph with the nodes that each has, and no edges yet."""
        graph: StepGraph = StateGraph(StepState, input_schema=StepInput, output_schema=StepOutput)
        graph.add_node("open", self.open)
        graph.add_node("append", self.append)
        graph.add_node("close", self.close)
        return graph

    def open(self, state: StepInput) -> Update:
        """Raises InputError for what is no problem."""
        signature = self.pipeline.signature(attempt_of(state))
        return {
            **opened(state, signature, verifier=self._verifier, proposition=self._proposition),
            "steps": [],
            "phase": "thinking",
            "candidates": {},
            "route": None,
            "stop": None,
            "error": "",
        }

    def writing(self, role: ModelRole) -> Node:
        """The node in which the model of this role writes the step."""
        writer = self._writers[role]

        def write(state: StepState) -> Update:
            try:
                text = writer.write(
                    state["problem"], state["steps"], state["phase"], attempt=state["attempt"], opening=state["opening"]
                )
            except GraphBubbleUp:  # LangGraph's own way to say that a graph was interrupted
                raise
            except Exception as error:  # whatever a backend does when it fails
                full = isinstance(error, ContextLengthError)
                evidence = failure(error)
                position = len(state["steps"])
                self.audit.failed(state, position, role, writer.model.identity, evidence, full=full)
                if full:
                    return {"stop": "context"}
                return {"stop": "error", "error": f"{role}: {evidence.type}: {evidence.message}"}
            return {"candidates": {**state["candidates"], role: text}}

        return write

    def append(self, state: StepState) -> Update:
        """What was decided becomes a step, and it is seen whether to go on."""
        candidates, route = dict(state["candidates"]), state["route"]
        kept = candidates.pop(route["to"] if route else next(iter(candidates)))
        discarded = next(iter(candidates.values()), None)
        phase = phase_of(kept["text"], state["phase"], self.settings)
        texts = [(kept, True)] if discarded is None else [(kept, True), (discarded, False)]
        self.audit.written(state, len(state["steps"]), texts, phase)
        step: WrittenStep = {**kept, "phase": phase, "route": route, "discarded": discarded}
        steps = [*state["steps"], step]
        following, stop = after(steps, self.settings)
        if following != phase and not closed_thinking(steps):
            closing = closing_step(self.settings.separator)
            self.audit.written(state, len(steps), [(closing, True)], phase)
            steps.append(closing)
        return {"steps": steps, "phase": following, "stop": stop, "candidates": {}, "route": None}

    def close(self, state: StepState) -> Update:
        """The text as a whole, its trace, and the verdict about how it ended."""
        steps, written = state["steps"], list(state["candidates"].values())
        undecided: Undecided | None = None
        if written or state["route"]:
            undecided = {"written": written, "route": state["route"]}
            self.audit.written(state, len(steps), [(text, False) for text in written], state["phase"])
        output = output_of(state, steps, undecided, finish=state["stop"] or "error", error=state["error"])
        self.audit.closed(output)
        if self._on_trace is not None:
            self._on_trace(finished_trace(output))
        return {**output, "candidates": {}, "route": None}


def unless_stopped(node: str) -> Callable[[StepState], str]:
    """The edge to `node`, or to the end where the text has ended."""
    return lambda state: "close" if state["stop"] else node


def by_route(state: StepState) -> str:
    """The role that the decision names."""
    route = state["route"]
    return route["to"] if route else "target"


def opened(given: StepInput, signature: str, *, verifier: str, proposition: str) -> Opening:
    """What `given` begins. Raises InputError for what is no problem."""
    problem, attempt = given.get("problem"), given.get("attempt", 0)
    if not isinstance(problem, str) or not problem.strip():
        raise InputError(f"A problem is a text that says something, not {problem!r:.40}.")
    try:
        digest = opening_trace(problem, signature).digest
    except ValueError as error:
        raise InputError("The problem holds half a surrogate pair, which is no text.") from error
    return {
        "problem": problem,
        "id": given.get("id") or "",
        "reference_answer": given.get("reference_answer"),
        "attempt": attempt,
        "pipeline": signature,
        "verifier": verifier,
        "proposition": proposition,
        "opening": digest,
    }


def attempt_of(given: StepInput) -> int:
    """Raises InputError for what is no number of an attempt."""
    attempt = given.get("attempt", 0)
    if isinstance(attempt, bool) or not isinstance(attempt, int) or attempt < 0:
        raise InputError(f"The attempt is a number of at least 0, not {attempt!r:.40}.")
    return attempt


def failure(error: Exception) -> ErrorEvidence:
    """What `error` says, as text that can be stored."""
    message = str(error)[:2000].encode(errors="backslashreplace").decode()[:2000]
    return ErrorEvidence(type=type(error).__name__, message=message)
