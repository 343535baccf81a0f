"""The default policy spends passes where they pay, and never keeps asking a drafter that loses."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Sequence

import pytest
import torch

from draftproof.drafting.draft import Draft, pack
from draftproof.drafting.drafter import DrafterSpec
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policies.cost import LONGEST_PAUSE, Cost
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.policy import Policy
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
    assert 40 < max(gaps) <= LONGEST_PAUSE + 1
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


# Simulated decoding: what a policy's choices come to, by the clock of the table

STEPS = (0, 1, 2, 3, 4, 6, 8, 12, 16)
Acceptance = Callable[[int, int], float]
"""(row of the batch, round) -> chance of a drafted token."""


def decoded(
    policy: Policy,
    acceptance: Acceptance,
    *,
    step_ms: float = 0.0,
    draft_ms: float = 0.0,
    scores: Sequence[float] | None = None,
    batch: int = 1,
    slowness: float = 1.0,
    texts: int = 3,
) -> float:
    """Tokens per second over texts of 128 rounds. With `scores`, the drafter makes its whole chain at once, cut after;
    without, it drafts token by token, all rows of the batch in step."""
    luck = random.Random(1)
    law = "match" if scores is not None else "reject"
    policy.bind(COSTS, DrafterSpec("simulated", max_nodes=16, max_depth=16, law=law, stepwise=scores is None))
    tokens, spent = 0, 0.0
    for text, index in itertools.product(range(texts), range(128)):
        rows = [text * batch + place for place in range(batch)]
        lengths = list(policy.budgets(rows))
        drafting = slowness * (step_ms * max(lengths) + draft_ms * any(lengths))
        promised: list[float | None] = [None] * batch
        if scores is not None and any(lengths):
            chains = [(list(range(length)), list(range(-1, length - 1))) for length in lengths]
            kept = policy.cut(rows, pack(chains, [list(scores[:length]) for length in lengths]))
            lengths = kept.n_nodes.tolist()
            promised = [sum(scores[:length]) for length in lengths]
        passing = slowness * COSTS.pass_ms(batch + sum(lengths))
        accepted = [
            next((at for at in range(length) if luck.random() >= acceptance(place, index)), length)
            for place, length in enumerate(lengths)
        ]
        tokens += sum(accepted) + batch
        spent += drafting + passing
        policy.observe(
            [
                record(
                    row=row, drafted=length, depth=length, accepted=right, score=score if length else None,
                    draft_ms=drafting / batch, verify_ms=passing / batch,
                )
                for row, length, right, score in zip(rows, lengths, accepted, promised, strict=True)
            ]
        )  # fmt: skip
        if index == 127:
            policy.forget(rows)
    return 1000.0 * tokens / spent


def against_the_best_length(acceptance: Acceptance, *, slowness: float = 1.0, **facts: float) -> float:
    best = max(decoded(Fixed(length), acceptance, **facts) for length in STEPS)  # type: ignore[arg-type]
    return slowness * decoded(Cost(), acceptance, slowness=slowness, **facts) / best  # type: ignore[arg-type]


def steady(chance: float) -> Acceptance:
    return lambda row, index: chance


@pytest.mark.parametrize(("step_ms", "slowness"), [(1.0, 1.0), (5.0, 1.5), (15.0, 1.0)])
@pytest.mark.parametrize("chance", [0.95, 0.8, 0.5, 0.05])
@pytest.mark.parametrize("batch", [1, 4])
def test_drafts_made_token_by_token_are_as_good_as_the_best_fixed_length(
    chance: float, step_ms: float, batch: int, slowness: float
) -> None:
    assert against_the_best_length(steady(chance), step_ms=step_ms, batch=batch, slowness=slowness) > 0.95


@pytest.mark.parametrize("batch", [1, 4])
def test_a_model_that_only_later_drafts_well_is_found_out(batch: int) -> None:
    """One length that is 0 must not be the last word."""

    def late(row: int, index: int) -> float:
        return 0.9 if index >= 64 else 0.05

    assert against_the_best_length(late, step_ms=1.0, batch=batch) > 1.05


def test_rows_of_a_batch_draft_as_much_as_each_is_worth() -> None:
    def mixed(row: int, index: int) -> float:
        return 0.9 if row % 2 else 0.1

    assert against_the_best_length(mixed, step_ms=2.0, batch=4) > 1.05


@pytest.mark.parametrize("batch", [1, 4])
def test_a_model_too_sure_of_itself_drafts_nearly_as_well_as_the_best_fixed_length(batch: int) -> None:
    """It is off in every token, so that deep nodes are worth next to nothing of what it says."""
    scores = [0.95**depth for depth in range(1, 17)]
    best = max(decoded(Fixed(length), steady(0.3), scores=scores, draft_ms=0.1, batch=batch) for length in STEPS)
    assert decoded(Cost(), steady(0.3), scores=scores, draft_ms=0.1, batch=batch) > 0.9 * best


@pytest.mark.parametrize("draft_ms", [0.1, 3.0, 20.0])
def test_a_liar_costs_a_few_percent_whatever_it_promises(draft_ms: float) -> None:
    lying = decoded(Cost(), steady(0.0), scores=[0.95**depth for depth in range(1, 17)], draft_ms=draft_ms)
    assert lying > 0.96 * decoded(Fixed(0), steady(0.0))


def test_a_cheap_drafter_is_asked_again_at_once_whatever_happened() -> None:
    """Copying comes in bursts. Between them its own scores say so, and nothing is verified."""

    def bursts(row: int, index: int) -> float:
        return 0.95 if index % 32 >= 24 else 0.02

    slept = functools.partial(decoded, acceptance=bursts, scores=[0.8**depth for depth in range(1, 17)], draft_ms=0.1)
    assert slept(Cost()) > 1.3 * slept(Fixed(0))


def test_a_longer_context_or_a_busy_machine_suspends_nobody() -> None:
    """Every pass takes 1.4 times what the table says; drafts are worth their verification, but not 1.4 times it."""
    busy = policy()
    chances = itertools.cycle([1, 0, 1, 0, 0])  # 1.4 tokens for 31.0 / 30.0 of a plain pass
    asked = 0
    for _ in range(200):
        budget = busy.budgets([0])[0]
        asked += budget > 0
        drafted = int(budget > 0)
        busy.observe(
            [
                record(
                    drafted=drafted, depth=drafted, accepted=next(chances) * drafted,
                    score=0.4 if drafted else None, verify_ms=1.4 * COSTS.pass_ms(1 + drafted),
                )
            ]
        )  # fmt: skip
    assert asked > 190


def test_a_new_row_begins_with_what_earlier_rows_have_shown() -> None:
    """A dear and useless drafter is asked once for a new text, and then left alone for as long as before."""
    losing = policy(law="reject", stepwise=True)
    asked = []
    for row in range(6):
        asked.append(0)
        for _ in range(64):
            budget = losing.budgets([row])[0]
            asked[-1] += budget > 0
            losing.observe(
                [
                    record(
                        row=row, drafted=budget, depth=budget, draft_ms=20.0 * budget,
                        verify_ms=COSTS.pass_ms(1 + budget),
                    )
                ]
            )  # fmt: skip
        losing.forget([row])
    assert asked[0] > 3
    assert asked[-1] <= 2


def test_drafts_without_scores_are_cut_to_what_is_accepted() -> None:
    unscored = policy()
    kept: list[int] = []
    for index in range(300):
        (budget,) = unscored.budgets([0])
        made = pack([(list(range(budget)), list(range(-1, budget - 1)))])
        drafted = int(unscored.cut([0], made).n_nodes[0]) if budget else 0
        kept.append(drafted)
        accepted = drafted if index >= 150 else 0
        unscored.observe(
            [record(drafted=drafted, depth=drafted, accepted=accepted, verify_ms=COSTS.pass_ms(1 + drafted))]
        )
    assert sum(kept[50:150]) < 60
    assert kept[-1] == 16
