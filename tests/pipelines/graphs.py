"""One of each step-level graph, over scripted models, with a course that has something of everything in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from draftproof.pipelines.arbitrage import POLICIES, build_arbitrage
from draftproof.pipelines.glimp_router import build_glimp_router
from draftproof.pipelines.spec_reason import build_spec_reason
from draftproof.pipelines.step_nodes import StepGraph
from draftproof.pipelines.step_state import StepSettings
from draftproof.verdict import Proposition
from draftproof.verifier import VerdictLog
from tests.pipelines.scripted import ScriptedJudge, ScriptedModel, by_text, steps

DRAFT = steps("So 1+1=3.", "So 2+1=3.", "The answer is 3.")
TARGET = steps("Now 1+1=2.", "Now 2+1=3.", "The answer is three.")
INPUT = {"problem": "What is 1+1+1?", "id": "sum", "reference_answer": "3"}

Build = Callable[..., StepGraph]


def draft(**options: Any) -> ScriptedModel:
    return ScriptedModel(DRAFT, "draft", entropies=(2.0, 0.5, 0.1), **options)


def target(**options: Any) -> ScriptedModel:
    return ScriptedModel(TARGET, "target", top=(("7", 0.6), ("3", 0.4)), **options)


def arbitrage(policy: str) -> Build:
    def build(log: VerdictLog, **options: Any) -> StepGraph:
        judge = {
            "rsd": ScriptedJudge(by_text({"1+1": 0.2, "": 0.9})),
            "router": ScriptedJudge(by_text({"1+1": 0.8, "": 0.1}), Proposition.TARGET_BETTER),
            "oracle": ScriptedJudge(by_text({"1+1=2": 0.9, "So": 0.8, "answer": None, "": 0.1})),
            "collect": ScriptedJudge(by_text({"1+1=2": 0.9, "So": 0.8, "": 0.1})),
        }.get(policy)
        models = (options.pop("draft", None) or draft(), options.pop("target", None) or target())
        return build_arbitrage(*models, log=log, policy=policy, verifier=judge, **options)  # type: ignore[arg-type]

    return build


def glimp_router(log: VerdictLog, **options: Any) -> StepGraph:
    return build_glimp_router(
        options.pop("draft", None) or draft(), options.pop("target", None) or target(), log=log, **options
    )


def spec_reason(log: VerdictLog, **options: Any) -> StepGraph:
    models = (options.pop("draft", None) or draft(), options.pop("target", None) or target())
    return build_spec_reason(*models, log=log, first_steps=1, **options)


GRAPHS: dict[str, Build] = {
    **{f"arbitrage-{policy}": arbitrage(policy) for policy in POLICIES},
    "glimp-router": glimp_router,
    "spec-reason": spec_reason,
}

SMALL = StepSettings(max_step_tokens=40, max_steps=20)
