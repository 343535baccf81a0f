"""GlimpRouter (arXiv 2601.05110): one token of the draft model tells whether a step is hard; the target writes those.

    open ─> probe ──delegate──> draft ─────────────────────> append ─> probe, target or close
              │                   └─answer─> hand_over ─┐      │
              └─escalate────────────────────────────> target ──┘

Routine steps begin almost deterministically, pivots do not: the entropy H of the draft model's first token is at most
the threshold for a step that it may write. Nothing of the probe is kept, whoever writes begins from the same context.
The answer is always the target's.

Differences from the published code, which escalates at H >= threshold: equality delegates here, as it does in the
paper's text and in every graph of this package. So threshold 0 leaves the draft model those steps whose first token is
certain, and only those. No entropy is below 0: with a negative threshold the target writes everything, and nobody
asks. H is in nats and of the `top` most probable tokens, renormalised (20, as published), or of the whole vocabulary
where `top` is 0; how many it was of is in each verdict, because the two are different numbers. Where a server told so
few that H could not have been above the threshold, it says nothing about the step, and the target writes.

Models that think in tags answer behind `</think>`. For others, a draft that states a final answer or ends the text is
the answer: it is thrown away, and the target writes in its place; what follows a stated answer is the target's, too,
without a glimpse. With `answer_begins=""` there is no telling, and nothing is handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, isfinite, log
from typing import Any

from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START
from langgraph.types import Checkpointer

from draftproof.errors import ModelError, UsageError
from draftproof.language_model import GREEDY, Ability, Decoding, FirstToken, LanguageModel, StopCause, require
from draftproof.pipelines.long_runs import compiled_steps
from draftproof.pipelines.step_audit import FINAL_ANSWER, Pipeline, RouteVerdict, configured, described, finite
from draftproof.pipelines.step_counts import PROBES
from draftproof.pipelines.step_loop import begins_answer, context_of
from draftproof.pipelines.step_nodes import (
    CompiledStepGraph,
    StepGraph,
    StepNodes,
    Update,
    by_route,
    failure,
    unless_stopped,
)
from draftproof.pipelines.step_state import ModelRole, Route, StepSettings, StepState, number, whole_number
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Proposition
from draftproof.verifier import VerdictLog

VERSION = 3
"""3: parts of one step are no repetition."""
TOP = 20
_FEWEST = 2
"""Of one token the renormalised entropy is 0, however uncertain it is."""


def create_glimp_router(
    draft: LanguageModel,
    target: LanguageModel,
    *,
    checkpointer: Checkpointer = None,
    interrupt_before: Sequence[str] = (),
    **options: Any,
) -> CompiledStepGraph:
    """The graph of `build_glimp_router`, ready to be invoked, however many steps its settings allow."""
    graph = build_glimp_router(draft, target, **options)
    return compiled_steps(graph, "glimp_router", options.get("settings"), checkpointer, interrupt_before)


def build_glimp_router(
    draft: LanguageModel,
    target: LanguageModel,
    *,
    log: VerdictLog,
    threshold: float = 1.0,
    top: int = TOP,
    settings: StepSettings | None = None,
    decoding: Decoding = GREEDY,
    on_trace: Callable[[Trace], None] | None = None,
) -> StepGraph:
    """One problem a run; any number of runs at once.

    Args:
        log: Where every verdict goes before anything is decided by it.
        threshold: In nats; at most this much entropy delegates. Infinite delegates everything but the answer, negative
            nothing.
        top: How many tokens the entropy is of; 0 for the whole vocabulary.
        on_trace: Is handed each finished trace, from whatever thread the graph runs in.

    Raises UsageError for a draft model that does not tell the distribution that is asked for.
    """
    looks = number("The threshold", threshold) >= 0
    if whole_number("top", top, least=0) == 1:
        raise UsageError("The entropy is of at least 2 tokens, or of all (0): that of one token is always 0.")
    if looks:
        _require_distribution(draft, top)
    settings = settings or StepSettings()
    configuration = configured(draft, target, settings, decoding, threshold=described(threshold), top=top)
    nodes = StepNodes(
        Pipeline("glimp-router", VERSION, configuration),
        draft,
        target,
        log=log,
        settings=settings,
        decoding=decoding,
        on_trace=on_trace,
    )
    return _looking(nodes, Glimpse(nodes, draft, threshold, top)) if looks else _target_only(nodes)


def _looking(nodes: StepNodes, glimpse: Glimpse) -> StepGraph:
    graph = nodes.graph()
    graph.add_node("probe", glimpse.probe)
    graph.add_node("draft", nodes.writing("draft"))
    graph.add_node("hand_over", glimpse.hand_over)
    graph.add_node("target", nodes.writing("target"))
    graph.add_edge(START, "open")
    graph.add_edge("open", "probe")
    graph.add_conditional_edges("probe", by_route, ["draft", "target"])
    graph.add_conditional_edges("draft", glimpse.after_draft, ["append", "hand_over", "close"])
    graph.add_edge("hand_over", "target")
    graph.add_conditional_edges("target", unless_stopped("append"), ["append", "close"])
    graph.add_conditional_edges("append", _next, ["probe", "target", "close"])
    graph.add_edge("close", END)
    return graph


def _target_only(nodes: StepNodes) -> StepGraph:
    graph = nodes.graph()
    graph.add_node("target", nodes.writing("target"))
    graph.add_edge(START, "open")
    graph.add_edge("open", "target")
    graph.add_conditional_edges("target", unless_stopped("append"), ["append", "close"])
    graph.add_conditional_edges("append", unless_stopped("target"), ["target", "close"])
    graph.add_edge("close", END)
    return graph


class Glimpse:
    """The nodes that decide."""

    def __init__(self, nodes: StepNodes, draft: LanguageModel, threshold: float, top: int) -> None:
        self._nodes, self._draft = nodes, draft
        self._threshold, self._top = threshold, top

    def probe(self, state: StepState) -> Update:
        """Asks for one distribution. A probe that fails delegates nothing."""
        signature = state["pipeline"]
        try:
            first = self._first_token(state)
        except GraphBubbleUp:
            raise
        except Exception as error:  # whatever a backend does when it fails
            verdict = RouteVerdict(signature, Proposition.EASY, Outcome.ERROR, error=failure(error))
            return self._routed(state, "target", None, "probe_failed", 0.0, verdict)
        entropy, raw, seconds = first.entropy, _raw(first), first.seconds
        if not isfinite(entropy) or entropy < -1e-6 or self._says_nothing(first):
            verdict = RouteVerdict(signature, Proposition.EASY, Outcome.ABSTAIN, raw=raw)
            return self._routed(state, "target", None, "probe_gave_no_entropy", seconds, verdict)
        easy = entropy <= self._threshold
        outcome = Outcome.ACCEPT if easy else Outcome.REJECT
        verdict = RouteVerdict(signature, Proposition.EASY, outcome, _ease(first), raw)
        reason = "first_token_certain" if easy else "first_token_uncertain"
        return self._routed(state, "draft" if easy else "target", entropy, reason, seconds, verdict)

    def _says_nothing(self, first: FirstToken) -> bool:
        """Whether the entropy is of too few tokens to tell an easy step from a hard one, whatever they are."""
        if first.of == 0:  # of the whole vocabulary
            return False
        if first.of < _FEWEST or len(first.top) < _FEWEST:
            return True
        fewer = self._top == 0 or first.of < self._top
        return fewer and isfinite(self._threshold) and log(first.of) <= self._threshold

    def after_draft(self, state: StepState) -> str:
        """A draft that is the answer is not kept."""
        if state["stop"]:
            return "close"
        text, settings = state["candidates"]["draft"], self._nodes.settings
        told = settings.answer_begins != "" and not settings.thinks
        ends = begins_answer(text["text"], settings) or text["cause"] == StopCause.END
        return "hand_over" if told and ends else "append"

    def hand_over(self, state: StepState) -> Update:
        """What was delegated turned out to be the answer."""
        route = state["route"]
        assert route is not None, "only a delegated step is handed over"
        handed: Route = {**route, "to": "target", "reason": "final_answer"}
        verdict = RouteVerdict(
            f"{FINAL_ANSWER}{state['pipeline'].rpartition('#')[2]}", Proposition.EASY, Outcome.ABSTAIN
        )
        self._nodes.audit.routed(state, len(state["steps"]), handed, verdict)
        return {"route": handed}

    def _first_token(self, state: StepState) -> FirstToken:
        context = context_of(state["problem"], state["steps"], self._nodes.settings.system)
        found = self._draft.first_token([context], top=self._top)
        if len(found) != 1:
            raise ModelError(f"{self._draft.name} gave {len(found)} distributions for one question.")
        if not (0.0 <= found[0].seconds < inf):
            raise ModelError(f"{self._draft.name} took {found[0].seconds} seconds.")
        return found[0]

    def _routed(
        self,
        state: StepState,
        to: ModelRole,
        entropy: float | None,
        reason: str,
        seconds: float,
        verdict: RouteVerdict,
    ) -> Update:
        route: Route = {
            "policy": PROBES,
            "to": to,
            "score": entropy,
            "threshold": finite(self._threshold),
            "reason": reason,
            "calls": 1,
            "seconds": seconds,
        }
        self._nodes.audit.routed(state, len(state["steps"]), route, verdict)
        return {"route": route}


def _require_distribution(draft: LanguageModel, top: int) -> None:
    """Raises UsageError for a model that could answer no probe: each would fail, and the target write everything."""
    require(draft, Ability.FIRST_TOKEN, purpose="The glimpse at a step's first token")
    most: int | None = getattr(draft, "most_alternatives", None)
    if top == 0 and most is not None:
        raise UsageError(
            f"The entropy of the whole vocabulary (top=0) needs all of it; {draft.name} tells {most} tokens at most.",
            remedy=f"Give 2 … {most}, or use a local model.",
        )


def _next(state: StepState) -> str:
    """The answer is written without a glimpse."""
    if state["stop"]:
        return "close"
    return "target" if state["phase"] == "answer" else "probe"


def _ease(first: FirstToken) -> float | None:
    """1 - H / ln K; None where it is not known what H could be at most."""
    return min(1.0, max(0.0, 1.0 - first.entropy / log(first.of))) if first.of > 1 else None


def _raw(first: FirstToken) -> dict[str, Any]:
    top = [[text.encode(errors="replace").decode(), finite(share)] for text, share in first.top]
    return {"entropy_nats": finite(first.entropy), "of": int(first.of), "top": top}
