"""Routers and the pipeline they are for: rows that it collects, steps that it asks about, pairs that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from draftproof.errors import UsageError
from draftproof.language_model import Ability
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.step_features import FEATURES, collected_rows
from draftproof.verdict import Outcome
from draftproof.verifiers.routers.logistic import LogisticModel
from draftproof.verifiers.routers.router import RouterVerifier
from draftproof.verifiers.routers.rows import Pair, append_rows, read_rows
from draftproof.verifiers.routers.stored import save_router
from tests.pipelines.graphs import DRAFT, INPUT, TARGET, draft, target
from tests.pipelines.scripted import Log, ScriptedJudge, by_text

PAIR = Pair("draft#draft-weights", "target#target-weights")


def route(router: RouterVerifier, **options: Any) -> tuple[Any, Log]:
    log = Log()
    graph = create_arbitrage(draft(), target(), policy="router", verifier=router, log=log, **options)
    return graph.invoke(INPUT), log  # type: ignore[call-overload]


@pytest.fixture
def by_position(tmp_path: Path) -> RouterVerifier:
    """Asks for the target at the first step (probability 0.73), and leaves the others to the draft (0.5, 0.27)."""
    file = tmp_path / "router.json"
    model = LogisticModel((1.0,), (1.0,), (-1.0,), 0.0)
    save_router(file, pair=PAIR, features=("position",), model=model, base_rate=0.5, report={})
    return RouterVerifier(str(file))


def test_rows_that_the_pipeline_collects_can_be_learned_from(tmp_path: Path) -> None:
    judge = ScriptedJudge(by_text({"1+1=2": 0.9, "So": 0.8, "": 0.1}))
    output = create_arbitrage(draft(), target(), policy="collect", verifier=judge, log=Log()).invoke(INPUT)  # type: ignore[call-overload]
    collected = collected_rows(output)
    assert append_rows(tmp_path / "rows.jsonl", collected) == len(collected) == 3
    rows = read_rows([tmp_path / "rows.jsonl"])
    assert [row.label for row in rows] == [1, 0, 0]
    assert [row.advantage for row in rows] == [row["advantage"] for row in collected]
    assert [row.writers for row in rows] == [(), ("target",), ("target", "draft")]
    assert (rows[0].draft, rows[0].target, rows[1].context) == (DRAFT[0], TARGET[0], (TARGET[0],))
    assert rows[0].pair == PAIR
    assert set(rows[0].features) == set(FEATURES)


def test_the_pipeline_asks_the_router_and_keeps_at_equality(by_position: RouterVerifier) -> None:
    output, log = route(by_position)
    assert [step["role"] for step in output["steps"]] == ["target", "draft", "draft"]
    asked = [verdict for verdict in log if verdict.verifier.startswith("router@")]
    assert [verdict.outcome for verdict in asked] == [Outcome.ACCEPT, Outcome.REJECT, Outcome.REJECT]
    assert [round(verdict.score or 0.0, 2) for verdict in asked] == [0.73, 0.5, 0.27]
    routes = [verdict.outcome for verdict in log if verdict.subject.granularity == "route"]
    assert routes == [verdict.outcome for verdict in asked], "route and router say the same of one proposition"


@pytest.mark.parametrize(("threshold", "writer"), [(1.0, "draft"), (0.0, "target")])
def test_the_ends_are_the_models_alone(by_position: RouterVerifier, threshold: float, writer: str) -> None:
    output, _ = route(by_position, threshold=threshold)
    assert {step["role"] for step in output["steps"]} == {writer}


def test_a_feature_that_the_backend_does_not_tell_escalates(tmp_path: Path) -> None:
    file = tmp_path / "router.json"
    model = LogisticModel((0.0,), (1.0,), (0.0,), -5.0)  # would keep everything
    save_router(file, pair=PAIR, features=("no_such_number",), model=model, base_rate=0.5, report={})
    output, log = route(RouterVerifier(str(file)))
    assert {step["role"] for step in output["steps"]} == {"target"}
    assert {v.reason for v in log if v.verifier.startswith("router@")} == {"missing_features"}


def test_what_the_router_was_not_fitted_for_is_refused_before_anything_is_written(
    by_position: RouterVerifier, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="fitted for draft#draft-weights and target#target-weights"):
        create_arbitrage(target(), draft(), policy="router", verifier=by_position, log=Log())
    model = LogisticModel((0.0,), (1.0,), (1.0,), 0.0)
    file = tmp_path / "logprobs.json"
    save_router(file, pair=PAIR, features=("mean_logprob",), model=model, base_rate=0.5, report={})
    silent = draft(abilities=frozenset(Ability) - {Ability.LOGPROBS})
    with pytest.raises(UsageError, match="log-probabilities"):
        create_arbitrage(silent, target(), policy="router", verifier=RouterVerifier(str(file)), log=Log())
