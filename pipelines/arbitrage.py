"""Who writes a step, decided once the draft model has written it: reward-guided decoding (RSD) and Arbitrage.

    rsd, router       open ─> draft ─> judge ──keep─────────────> append ─> draft, or close
                                         └────escalate─> target ────┘
    oracle, collect   open ─> draft ─> target ─> judge ─> append ─> draft, or close

    rsd          a verifier scores the draft's step; a score of at least the threshold keeps it
                 (arXiv 2501.19324, its binary step rule; threshold 0.7)
    router       a verifier says how probable it is that the target's step would be better; at most the threshold keeps
                 the draft's (Arbitrage, arXiv 2512.05033, Algorithm 1). Only an escalated step calls the target.
    oracle       both models write, one verifier scores both, and the target's step is taken where it is better by more
                 than the threshold. A bound on the quality that routing can reach under that verifier, not a way to
                 save time.
    collect      the oracle at threshold 0; `collected_rows` makes of its output what a router is fitted to
    draft-only   the draft model writes everything, and nothing is judged
    target-only  the target does

A draft is kept at equality. It is never kept because nobody could tell: where the verifier abstains, fails or gives no
score, the target writes, and the route says why. All of this is lossy: the text is neither model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

from langgraph.graph import END, START
from langgraph.types import Checkpointer

from draftproof.errors import UnknownNameError, UsageError
from draftproof.language_model import GREEDY, Ability, Decoding, LanguageModel, require
from draftproof.pipelines.long_runs import compiled_steps
from draftproof.pipelines.step_audit import Pipeline, RouteVerdict, configured, described, finite
from draftproof.pipelines.step_internals import internals_wanted, require_told
from draftproof.pipelines.step_judging import Judge, Judgement, require_step_verifier
from draftproof.pipelines.step_nodes import CompiledStepGraph, StepGraph, StepNodes, Update, by_route, unless_stopped
from draftproof.pipelines.step_state import ModelRole, Route, StepSettings, StepState, number
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Proposition
from draftproof.verifier import VerdictLog, Verifier, identity

Policy = Literal["rsd", "router", "oracle", "collect", "draft-only", "target-only"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
THRESHOLDS: dict[str, float] = {"rsd": 0.7, "router": 0.5, "oracle": 0.0, "collect": 0.0}
VERSION = 2
"""2: part of a step, which a limit cut off, is judged by nobody."""

_REWARDS = (Proposition.CORRECT, Proposition.LEADS_TO_ANSWER, Proposition.SUPPORTED)
_HELP = "Give one that judges steps: see `draftproof verifiers list`."
_BOTH: tuple[ModelRole, ...] = ("draft", "target")


def create_arbitrage(
    draft: LanguageModel,
    target: LanguageModel,
    *,
    checkpointer: Checkpointer = None,
    interrupt_before: Sequence[str] = (),
    **options: Any,
) -> CompiledStepGraph:
    """The graph of `build_arbitrage`, ready to be invoked, however many steps its settings allow.

    Raises UsageError also for a checkpointer with a verifier that only knows of a step what it was told while the step
    was written: that is in no checkpoint, and a run that went on in another process would take another course.
    """
    if checkpointer:
        _require_reading(options.get("verifier"), draft, target)
    graph = build_arbitrage(draft, target, **options)
    return compiled_steps(graph, "arbitrage", options.get("settings"), checkpointer, interrupt_before)


def build_arbitrage(
    draft: LanguageModel,
    target: LanguageModel,
    *,
    log: VerdictLog,
    policy: Policy = "rsd",
    verifier: Verifier | None = None,
    threshold: float | None = None,
    settings: StepSettings | None = None,
    decoding: Decoding = GREEDY,
    on_trace: Callable[[Trace], None] | None = None,
) -> StepGraph:
    """One problem a run; any number of runs at once.

    Args:
        log: Where every verdict goes before anything is decided by it.
        verifier: Of steps. It scores how right a step is (rsd, oracle, collect), or that the target's would be better
            (router).
        threshold: Default: see `THRESHOLDS`. Infinite ones are allowed.
        on_trace: Is handed each finished trace, from whatever thread the graph runs in.

    Whoever compiles it with a checkpointer of his own gives it no verifier that cannot read steps by itself: see
    `create_arbitrage`, which looks.

    Raises UsageError for what does not fit together: a verifier that scores something else, a router for another pair
    of models, a model that does not give what the policy reads.
    """
    settings = settings or StepSettings()
    threshold = _threshold(policy, threshold)
    if policy in THRESHOLDS:
        if verifier is None:
            raise UsageError(f"The policy {policy} needs a verifier.", remedy=_HELP)
        _require_fit(policy, verifier, draft, target)
    elif verifier is not None:
        raise UsageError(f"The policy {policy} judges nothing, and was given the verifier {verifier.name}.")
    signed = identity(verifier) if verifier is not None else ""
    configuration = configured(draft, target, settings, decoding, verifier=signed, threshold=described(threshold))
    nodes = StepNodes(
        Pipeline(f"arbitrage-{policy}", VERSION, configuration),
        draft,
        target,
        log=log,
        settings=settings,
        decoding=decoding,
        verifier=signed,
        proposition=verifier.proposition.value if verifier is not None else "",
        internals=verifier,
        on_trace=on_trace,
    )
    graph = nodes.graph()
    if policy in THRESHOLDS:
        assert verifier is not None
        assert threshold is not None
        judge = Judge(verifier, (draft.identity, target.identity), log)
        graph.add_node("judge", Decision(nodes, judge, policy, threshold).node)
    _wire(graph, nodes, policy)
    return graph


class Decision:
    """The node that judges what was written for a step and says whose becomes part of the text."""

    def __init__(self, nodes: StepNodes, judge: Judge, policy: Policy, threshold: float) -> None:
        self._nodes, self._judge = nodes, judge
        self._policy, self._threshold = policy, threshold
        self._judged: tuple[ModelRole, ...] = _BOTH if policy in ("oracle", "collect") else ("draft",)

    def node(self, state: StepState) -> Update:
        judgement = self._judge.judge(state, self._judged)
        to, score, outcome, reason = self._decided(judgement)
        route: Route = {
            "policy": self._policy,
            "to": to,
            "score": score,
            "threshold": finite(self._threshold),
            "reason": reason,
            "calls": judgement.calls,
            "seconds": judgement.seconds,
        }
        self._nodes.audit.routed(
            state,
            len(state["steps"]),
            route,
            RouteVerdict(state["pipeline"], Proposition.TARGET_BETTER, outcome),
        )
        candidates = state["candidates"]
        scored = {role: {**candidates[role], "score": judgement.score(role)} for role in self._judged}
        return {"candidates": {**candidates, **scored}, "route": route}

    def _decided(self, judgement: Judgement) -> tuple[ModelRole, float | None, Outcome, str]:
        """To whom, by what number, whether the target is held to be better, and why."""
        for role in self._judged:
            if judgement.score(role) is None:
                return "target", None, Outcome.ABSTAIN, f"verifier_{judgement.why_not(role)}_on_{role}"
        scores = [judgement.score(role) or 0.0 for role in self._judged]
        if self._policy == "rsd":
            (value,) = scores
            kept = value >= self._threshold
        else:
            value = scores[-1] - scores[0] if len(scores) == 2 else scores[0]
            kept = value <= self._threshold
        yes, no = _REASONS[self._policy]
        return ("draft", value, Outcome.REJECT, yes) if kept else ("target", value, Outcome.ACCEPT, no)


_REASONS = {
    "rsd": ("reward_reaches_threshold", "reward_below_threshold"),
    "router": ("advantage_unlikely", "advantage_likely"),
    "oracle": ("target_not_better", "target_better"),
    "collect": ("target_not_better", "target_better"),
}
"""Why a draft is kept, and why not."""


def _wire(graph: StepGraph, nodes: StepNodes, policy: Policy) -> None:
    roles: tuple[ModelRole, ...] = {"draft-only": _BOTH[:1], "target-only": _BOTH[1:]}.get(policy, _BOTH)
    for role in roles:
        graph.add_node(role, nodes.writing(role))
    graph.add_edge(START, "open")
    graph.add_edge("open", roles[0])
    graph.add_conditional_edges("append", unless_stopped(roles[0]), [roles[0], "close"])
    graph.add_edge("close", END)
    if policy not in THRESHOLDS:
        graph.add_conditional_edges(roles[0], unless_stopped("append"), ["append", "close"])
    elif policy in ("oracle", "collect"):
        graph.add_conditional_edges("draft", unless_stopped("target"), ["target", "close"])
        graph.add_conditional_edges("target", unless_stopped("judge"), ["judge", "close"])
        graph.add_edge("judge", "append")
    else:
        graph.add_conditional_edges("draft", unless_stopped("judge"), ["judge", "close"])
        graph.add_conditional_edges("judge", by_route, {"draft": "append", "target": "target"})
        graph.add_conditional_edges("target", unless_stopped("append"), ["append", "close"])


def _threshold(policy: str, given: float | None) -> float | None:
    if policy not in POLICIES:
        raise UnknownNameError(f"There is no policy {policy!r}.", remedy=f"There are: {', '.join(POLICIES)}.")
    if policy not in THRESHOLDS or policy == "collect":
        if given is not None:
            raise UsageError(f"The policy {policy} has no threshold.")
        return THRESHOLDS.get(policy)
    return THRESHOLDS[policy] if given is None else number("The threshold", given)


def _require_fit(policy: str, verifier: Verifier, draft: LanguageModel, target: LanguageModel) -> None:
    purpose = f"The policy {policy}"
    if policy == "collect":
        require(draft, Ability.LOGPROBS, purpose=purpose)  # rows without the draft's own statistics teach little
    if policy != "router":
        require_step_verifier(verifier, _REWARDS, purpose)
        judged = (draft, target) if policy in ("oracle", "collect") else (draft,)
        for writer in judged:  # one that is never judged would make each step the target's
            require_told(verifier, [writer.identity], purpose)
        return
    require_step_verifier(verifier, (Proposition.TARGET_BETTER,), purpose)
    require(draft, *getattr(verifier, "needs", ()), purpose=f"The router {verifier.name}")
    pair = getattr(verifier, "pair", None)
    if pair is not None and [_weights(each) for each in pair] != [_weights(draft.identity), _weights(target.identity)]:
        raise UsageError(
            f"The router {verifier.name} was fitted for {pair[0]} and {pair[1]}, not for {draft.identity} and"
            f" {target.identity}: its scores would mean nothing.",
            remedy="Collect rows with this pair, and fit a router to them.",
        )


def _require_reading(verifier: Verifier | None, draft: LanguageModel, target: LanguageModel) -> None:
    """Whatever judges by a writer's internals, alone or as a part of another, has the model to read steps with."""
    if verifier is None:
        return
    parts: Sequence[Verifier] = getattr(verifier, "parts", ())
    for part in parts:
        _require_reading(part, draft, target)
    told = any(internals_wanted(verifier, model.identity) is not None for model in (draft, target))
    if told and not parts and verifier.arguments.get("model") is None:
        raise UsageError(
            f"{verifier.name} knows of a step only what it was told while the step was written, and a checkpoint does"
            " not hold that: a run that went on from one would take another course.",
            remedy="Name the verifier's model (model=…), so that it can read steps, or leave out the checkpointer.",
        )


def _weights(model: str) -> str:
    """An identity without the name, which is the user's choice."""
    return model.rpartition("#")[2]
