"""The default policy spends passes where they pay, and never keeps asking a drafter that loses."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from draftproof.drafting.draft import Draft, pack
from draftproof.drafting.drafter import DrafterSpec
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policies.cost import LONGEST_PAUSE, Cost
from draftproof.drafting.rounds import RowRound

COSTS = PassCosts((1, 2, 4, 8, 16, 32), (30.0, 31.0, 33.0, 38.0, 50.0, 75.0))


def policy(*, costs: PassCosts = COSTS, law: str = "match", stepwise: bool = False) -> Cost:
    made = Cost()
    made.bind(costs, DrafterSpec("scripted", max_nodes=16, law=law, stepwise=stepwise))  # type: ignore[arg-type]
    return made


def record(**facts: object) -> RowRound:
    usual = {
        "row": 0, "index": 0, "position": 9, "drafter": "scripted", "law": "match", "rule": "match", "lossless": True,
        "drafted": 0, "depth": 0, "accepted": 0, "emitted": 1, "score": None, "draft_ms": 0.1, "verify_ms": 30.0,
    }  # fmt: skip
    return RowRound(**{**usual, **facts})  # type: ignore[arg-type]


def scored(scores: list[float], parents: list[int] | None = None) -> Draft:
    above = parents if parents is not None else list(range(-1, len(scores) - 1))
    return pack([(list(range(10, 10 + len(scores))), above)], [scores])


def expected_speed(scores: list[float], nodes: tuple[int, ...]) -> float:
    return (1 + sum(scores[node] for node in nodes)) / COSTS.pass_ms(1 + len(nodes))


def connected(nodes: tuple[int, ...], parents: list[int]) -> bool:
    return all(parents[node] in (-1, *nodes) for node in nodes)


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_is_the_best_of_all_connected_parts(seed: int) -> None:
    """Compared with every subset of small random trees."""
    luck = random.Random(seed)
    parents, scores = [], []
    for node in range(7):
        parents.append(luck.randint(-1, node - 1))
        above = 1.0 if parents[-1] < 0 else scores[parents[-1]]
        scores.append(above * luck.random())
    kept = policy().cut([0], scored(scores, parents))
    values = torch.tensor(scores)
    mine = tuple(int((values == score).nonzero()[0, 0]) for score in kept.score[0, : int(kept.n_nodes[0])])  # type: ignore[index]
    subsets = itertools.chain.from_iterable(itertools.combinations(range(7), size) for size in range(8))
    best = max(expected_speed(scores, nodes) for nodes in subsets if connected(nodes, parents))
    assert expected_speed(scores, mine) == pytest.approx(best)
    assert connected(mine, parents)


def test_a_hopeless_draft_is_cut_to_nothing() -> None:
    assert int(policy().cut([0], scored([0.01, 0.005])).n_nodes[0]) == 0


def test_a_certain_draft_is_kept_whole() -> None:
    assert int(policy().cut([0], scored([0.99] * 16)).n_nodes[0]) == 16


def test_rows_share_the_pass() -> None:
    """The better row's nodes are bought first, and the worse row's only if they still pay."""
    draft = pack([([1, 2], [-1, 0]), ([3, 4], [-1, 0])], [[0.9, 0.8], [0.02, 0.01]])
    assert policy().cut([0, 1], draft).n_nodes.tolist() == [2, 0]


def test_a_drafter_that_promises_too_much_is_believed_less() -> None:
    sanguine = policy()
    before = int(sanguine.cut([0], scored([0.6, 0.4, 0.2, 0.1])).n_nodes[0])
    for _ in range(30):
        sanguine.budgets([0])
        sanguine.observe([record(drafted=4, depth=4, accepted=0, score=1.3)])
    after = int(sanguine.cut([0], scored([0.6, 0.4, 0.2, 0.1])).n_nodes[0])
    assert after < before


def test_a_losing_drafter_is_asked_ever_less_and_never_forgotten() -> None:
    losing = policy()
    asked = []
    for index in range(1000):
        budget = losing.budgets([0])[0]
        if budget:
            asked.append(index)
        losing.observe([record(drafted=4 if budget else 0, depth=4 if budget else 0, draft_ms=20.0, verify_ms=33.0)])
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked)]
    assert max(gaps) == LONGEST_PAUSE + 1
    assert len(asked) < 30


def test_a_drafter_that_returns_is_used_again() -> None:
    returning = policy()
    for _ in range(300):
        budget = returning.budgets([0])[0]
        returning.observe([record(drafted=8 if budget else 0, depth=8 if budget else 0, draft_ms=20.0, verify_ms=38.0)])
    asked = 0
    for _ in range(300):
        if returning.budgets([0])[0]:
            asked += 1
            returning.observe([record(drafted=8, depth=8, accepted=8, emitted=9, draft_ms=1.0, verify_ms=38.0)])
        else:
            returning.observe([record()])
    assert asked > 200


@pytest.mark.parametrize(("acceptance", "low", "high"), [(0.95, 8, 16), (0.5, 1, 4), (0.02, 0, 0)])
def test_the_length_of_a_stepwise_draft_follows_acceptance(acceptance: float, low: int, high: int) -> None:
    luck = random.Random(0)
    stepwise = policy(law="reject", stepwise=True)
    lengths = []
    for _ in range(400):
        length = stepwise.budgets([0])[0]
        lengths.append(length)
        accepted = next((i for i in range(length) if luck.random() > acceptance), length)
        stepwise.observe(
            [
                record(
                    drafted=length,
                    depth=length,
                    accepted=accepted,
                    draft_ms=1.0 * length,
                    verify_ms=COSTS.pass_ms(1 + length),
                )
            ]
        )
    settled = sorted(length for length in lengths[200:])
    assert low <= settled[len(settled) // 2] <= high


def test_where_rows_cost_as_much_as_passes_nothing_is_drafted() -> None:
    """On hardware without spare compute, v(k) = k: a draft can only lose unless it is nearly certain."""
    linear = policy(costs=PassCosts((1, 32), (30.0, 960.0)))
    assert int(linear.cut([0], scored([0.9, 0.8, 0.7])).n_nodes[0]) == 0


def test_forgotten_rows_begin_anew() -> None:
    losing = policy()
    for _ in range(100):
        losing.budgets([0])
        losing.observe([record(drafted=8, depth=8, draft_ms=30.0, verify_ms=40.0)])
    losing.forget([0])
    assert losing.budgets([0])[0] == 16
