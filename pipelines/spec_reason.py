"""SpecReason (arXiv 2504.07891): the target rates the draft model's steps with one digit each, and rewrites bad ones.

    open ─> draft ─> judge ──keep─────────────> append ─> draft, target or close
                       └────escalate─> target ────┘

A rating of at least the threshold (7 of 9) keeps the draft's step. An answer that is no digit is a 0. The first steps
can be given to the target (`first_steps`), since a good plan is worth more than a good continuation; and where models
think in tags, the target writes the answer behind them. What the target is asked is in `utility_judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from langgraph.graph import END, START
from langgraph.types import Checkpointer

from draftproof.language_model import GREEDY, Decoding, LanguageModel
from draftproof.pipelines.long_runs import compiled_steps
from draftproof.pipelines.step_audit import Pipeline, RouteVerdict, configured
from draftproof.pipelines.step_judging import Judge
from draftproof.pipelines.step_nodes import CompiledStepGraph, StepGraph, StepNodes, Update, by_route, unless_stopped
from draftproof.pipelines.step_state import ModelRole, Route, StepOutput, StepSettings, StepState, whole_number
from draftproof.pipelines.utility_judge import UtilityJudge
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Proposition
from draftproof.verifier import VerdictLog, identity

VERSION = 2
"""2: part of a step, which a limit cut off, is judged by nobody."""
THRESHOLD = 7.0


def create_spec_reason(
    draft: LanguageModel,
    target: LanguageModel,
    *,
    checkpointer: Checkpointer = None,
    interrupt_before: Sequence[str] = (),
    **options: Any,
) -> CompiledStepGraph:
    """The graph of `build_spec_reason`, ready to be invoked, however many steps its settings allow."""
    graph = build_spec_reason(draft, target, **options)
    return compiled_steps(graph, "spec_reason", options.get("settings"), checkpointer, interrupt_before)


def build_spec_reason(
    draft: LanguageModel,
    target: LanguageModel,
    *,
    log: VerdictLog,
    threshold: float = THRESHOLD,
    reading: Literal["greedy", "expectation"] = "greedy",
    first_steps: int = 0,
    settings: StepSettings | None = None,
    decoding: Decoding = GREEDY,
    on_trace: Callable[[Trace], None] | None = None,
) -> StepGraph:
    """One problem a run; any number of runs at once.

    Args:
        log: Where every verdict goes before anything is decided by it.
        threshold: Of ratings from 0 to 9.
        reading: How a rating is read off the target's first token; see `UtilityJudge`.
        first_steps: How many steps the target writes before the draft model is asked for one.
        on_trace: Is handed each finished trace, from whatever thread the graph runs in.

    Raises UsageError for a target that tells no distribution of its first token.
    """
    whole_number("first_steps", first_steps, least=0)
    verifier = UtilityJudge(target, threshold, reading)
    settings, signed = settings or StepSettings(), identity(verifier)
    configuration = configured(draft, target, settings, decoding, verifier=signed, first_steps=first_steps)
    nodes = StepNodes(
        Pipeline("spec-reason", VERSION, configuration),
        draft,
        target,
        log=log,
        settings=settings,
        decoding=decoding,
        verifier=signed,
        proposition=verifier.proposition.value,
        on_trace=on_trace,
    )
    judge = Judge(verifier, (draft.identity, target.identity), log)

    def following(state: StepState) -> str:
        if state["stop"]:
            return "close"
        forced = len(state["steps"]) < first_steps or (settings.thinks and state["phase"] == "answer")
        return "target" if forced else "draft"

    graph = nodes.graph()
    graph.add_node("draft", nodes.writing("draft"))
    graph.add_node("judge", Rating(nodes, judge, threshold).node)
    graph.add_node("target", nodes.writing("target"))
    graph.add_edge(START, "open")
    graph.add_edge("open", "target" if first_steps else "draft")
    graph.add_conditional_edges("draft", unless_stopped("judge"), ["judge", "close"])
    graph.add_conditional_edges("judge", by_route, {"draft": "append", "target": "target"})
    graph.add_conditional_edges("target", unless_stopped("append"), ["append", "close"])
    graph.add_conditional_edges("append", following, ["draft", "target", "close"])
    graph.add_edge("close", END)
    return graph


class Rating:
    """The node that decides."""

    def __init__(self, nodes: StepNodes, judge: Judge, threshold: float) -> None:
        self._nodes, self._judge, self._threshold = nodes, judge, threshold

    def node(self, state: StepState) -> Update:
        judgement = self._judge.judge(state, ("draft",))
        verdict = judgement.verdicts["draft"]
        rating: float | None = verdict.raw.get("rating") if judgement.score("draft") is not None else None
        kept = rating is not None and rating >= self._threshold
        to: ModelRole = "draft" if kept else "target"
        known = verdict.outcome in (Outcome.ACCEPT, Outcome.REJECT)
        route: Route = {
            "policy": "utility",
            "to": to,
            "score": rating,
            "threshold": self._threshold,
            "reason": verdict.reason if known else f"verifier_{judgement.why_not('draft')}_on_draft",
            "calls": judgement.calls,
            "seconds": judgement.seconds,
        }
        outcome = Outcome.ABSTAIN if rating is None else Outcome.REJECT if kept else Outcome.ACCEPT
        claim = RouteVerdict(state["pipeline"], Proposition.TARGET_BETTER, outcome)
        self._nodes.audit.routed(state, len(state["steps"]), route, claim)
        scored = {**state["candidates"]["draft"], "score": judgement.score("draft")}
        return {"candidates": {**state["candidates"], "draft": scored}, "route": route}


def step_records(output: StepOutput) -> list[dict[str, Any]]:
    """One record for each step, with the fields of the published implementation's log."""
    records: list[dict[str, Any]] = []
    for number, step in enumerate(output["steps"]):
        texts = [step] if step["discarded"] is None else [step, step["discarded"]]
        by_role = {text["role"]: text for text in texts}
        small, base, route = by_role.get("draft"), by_role.get("target"), step["route"]
        records.append(
            {
                "step_id": number,
                "step_str": step["text"],
                "small_model_step": small and small["text"],
                "num_output_tokens_small": small and small["tokens"],
                "score": route and route["score"],
                "base_model_step": base and base["text"],
                "num_output_tokens_base": base and base["tokens"],
                "final_num_output_tokens": step["tokens"],
                "justification": route and route["reason"],
                "stop_reason": None,
            }
        )
    if records:
        records[-1]["stop_reason"] = "finished" if output["finish"] == "end" else output["finish"]
    return records
