"""Collect, fit a router, route with it: the three parts fit together."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from draftproof.errors import UsageError
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.step_features import StepSubject, collected_rows
from draftproof.verdict import FeatureEvidence
from draftproof.verifiers.routers.fitting import fit_router
from draftproof.verifiers.routers.router import RouterVerifier
from draftproof.verifiers.routers.rows import append_rows, read_rows
from tests.pipelines.scripted import Log, ScriptedJudge, ScriptedModel

LONG = 30
"""The draft model gets steps wrong that are longer than this."""


def models(seed: int) -> tuple[ScriptedModel, ScriptedModel]:
    source = random.Random(seed)
    lengths = [source.choice([3, 8, 15, 45, 60, 80]) + source.randint(0, 5) for _ in range(6)]
    letters = [chr(97 + index) for index in range(6)]
    plans = [[f"{who}{letter * size}\n\n" for letter, size in zip(letters, lengths, strict=True)] for who in "qp"]
    return ScriptedModel(plans[0], "draft"), ScriptedModel(plans[1], "target")


def score(subject: StepSubject) -> float:
    return 0.5 if subject.text.startswith("p") else 0.2 if len(subject.text) > LONG else 0.9


@pytest.fixture
def router(tmp_path: Path) -> RouterVerifier:
    for seed in range(60):
        graph = create_arbitrage(*models(seed), policy="collect", verifier=ScriptedJudge(score), log=Log())
        output: Any = graph.invoke({"problem": f"Problem {seed}"})
        append_rows(tmp_path / "rows.jsonl", collected_rows(output))
    fit_router(read_rows([tmp_path / "rows.jsonl"]), tmp_path / "router.json", minimum=100)
    return RouterVerifier(str(tmp_path / "router.json"))


def test_a_router_that_was_fitted_to_what_was_collected_routes(router: RouterVerifier) -> None:
    draft, target = models(1000)
    log = Log()
    graph = create_arbitrage(draft, target, policy="router", verifier=router, log=log)
    steps = graph.invoke({"problem": "A new one"})["steps"]
    wanted = ["target" if len(text) > LONG else "draft" for text in draft.plan]
    assert {"draft", "target"} == set(wanted)
    assert [step["role"] for step in steps][: len(wanted)] == wanted
    assert len(target.requests) == [step["role"] for step in steps].count("target")
    read = [v.evidence[0] for v in log if v.verifier.startswith("router@")]
    assert all(isinstance(evidence, FeatureEvidence) for evidence in read)

    with pytest.raises(UsageError, match="fitted for"):
        create_arbitrage(target, draft, policy="router", verifier=router, log=Log())
