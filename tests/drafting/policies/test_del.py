"""DEL takes the exit and the length that pay most, plain decoding included, and finds them while it decodes."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafter import DrafterSpec, StepSignal
from draftproof.drafting.drafters.early_exit import EarlyExit
from draftproof.drafting.exits import Exits
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policies.catalogue import create_policy
from draftproof.drafting.policies.del_policy import DEL, RAREST_SCORE
from draftproof.drafting.rounds import RowRound
from draftproof.errors import UsageError
from tests.drafting.drafters.decoding import decode, random_prompts, session_of

FLAT = PassCosts((1, 64), (30.0, 30.0))
"""Every pass costs the same, as the paper has it."""

STEEP = PassCosts((1, 2, 8, 16), (30.0, 45.0, 50.0, 60.0))
LAYERS = (4, 8, 16)


def policy(acceptance: dict[int, float], costs: PassCosts = FLAT, rows: tuple[int, ...] = (0,)) -> DEL:
    exits = Exits(tuple(acceptance), next(iter(acceptance)), n_layers=32)
    for layer, share in acceptance.items():
        for row in rows:
            for _ in range(60):
                exits.note(row, layer, round(100 * share), 100)
    made = DEL()
    made.bind(costs, DrafterSpec("early-exit", max_nodes=12, law="reject", stepwise=True, exits=exits))
    return made


def record(row: int = 0, **facts: object) -> RowRound:
    usual = {
        "index": 0, "position": 9, "drafter": "early-exit", "law": "match", "rule": "match", "lossless": True,
        "drafted": 4, "depth": 4, "accepted": 4, "emitted": 5, "score": None, "draft_ms": 10.0, "verify_ms": 30.0,
    }  # fmt: skip
    return RowRound(row=row, **{**usual, **facts})  # type: ignore[arg-type]


def tokens_per_layer(acceptance: float, layer: int, length: int) -> float:
    return (1 - acceptance ** (length + 1)) / (1 - acceptance) / (length * layer + 32)


@pytest.mark.parametrize("seed", range(12))
def test_with_passes_of_one_price_it_takes_the_papers_choice(seed: int) -> None:
    chance = random.Random(seed)
    acceptance = {layer: round(chance.uniform(0.3, 0.95), 2) for layer in LAYERS}
    made = policy(acceptance)
    near = {layer: made._exits.acceptance(0, layer) for layer in LAYERS}
    best = max(itertools.product(LAYERS, range(1, 13)), key=lambda pair: tokens_per_layer(near[pair[0]], *pair))
    layer, length, speed = made.best([0])
    assert (layer, length) == best
    assert speed == pytest.approx(tokens_per_layer(near[layer], layer, length) * 32 / 30.0)


def test_dear_passes_make_drafts_that_pay_longer_or_none() -> None:
    assert policy({4: 0.35, 8: 0.36}).budgets([0]) != (0,)
    assert policy({4: 0.35, 8: 0.36}, STEEP).budgets([0]) == (0,)
    sure = policy({4: 0.9}, STEEP)
    assert sure.budgets([0])[0] > 6
    assert sure._exits.layer == 4


def test_useless_exits_are_scored_ever_more_rarely_until_they_pay() -> None:
    made = policy({4: 0.02, 8: 0.05})
    for _ in range(10):
        assert made.budgets([0]) == (0,)
    assert made._exits.interval == RAREST_SCORE
    for _ in range(60):
        made._exits.note(0, 8, 95, 100)
    assert made.budgets([0])[0] > 0
    assert (made._exits.layer, made._exits.interval) == (8, 1)


def test_rows_share_one_exit_and_each_counts() -> None:
    made = policy({4: 0.1, 16: 0.1}, rows=(0, 1, 2))
    for row, layer in ((0, 4), (1, 16), (2, 16)):
        for _ in range(80):
            made._exits.note(row, layer, 97, 100)
    assert made.budgets([0])[0] > 0
    assert made._exits.layer == 4
    made.budgets([1, 2])
    assert made._exits.layer == 16


def test_drafting_that_takes_longer_than_its_layers_should_is_chosen_less() -> None:
    made = policy({4: 0.8, 16: 0.9})
    (length,) = made.budgets([0])
    assert made._exits.layer == 4
    for _ in range(60):
        made.budgets([0])
        made.observe([record(draft_ms=400.0)])
    assert made.budgets([0]) == (0,)
    assert length > 0


def test_a_slower_machine_changes_no_choice() -> None:
    """Drafting and verification, plain steps included, all took three times as long."""
    made = policy({4: 0.8, 16: 0.9})
    before = made.budgets([0])
    for _ in range(200):
        (length,) = made.budgets([0])
        step = 30.0 * 4 / 32
        slow = {"draft_ms": 3 * step * (length + 1), "verify_ms": 3 * 30.0 * 28 / 32}
        made.observe([record(drafted=length, depth=length, **slow)])
    assert made.budgets([0]) == before


def test_it_stops_where_confidence_was_misplaced_and_goes_on_where_it_was_not() -> None:
    made = policy({4: 0.8})
    made.budgets([0])
    fresh = [made.go_on(StepSignal(0, 1, 0.95, 0.95)), policy_asked({4: 0.8}, 0.05)]
    assert fresh == [True, False], "before anything is known, confidence is believed"
    for _ in range(40):
        made.budgets([0])
        assert len(made._drafted[0].confidences) == 0
        made.go_on(StepSignal(0, 1, 0.95, 0.95))
        made.observe([record(drafted=1, depth=1, accepted=0, emitted=1, draft_ms=7.5, verify_ms=26.0)])
    made.budgets([0])
    assert not made.go_on(StepSignal(0, 1, 0.95, 0.95))


def policy_asked(acceptance: dict[int, float], confidence: float) -> bool:
    made = policy(acceptance)
    made.budgets([0])
    return made.go_on(StepSignal(0, 1, confidence, confidence))


def test_a_drafter_without_exits_is_refused() -> None:
    with pytest.raises(UsageError, match="offers none"):
        create_policy("del").bind(FLAT, DrafterSpec("prompt-lookup"))


@pytest.fixture(scope="module")
def deep_llama() -> PreTrainedModel:
    """Six layers, of which the last two hardly change anything: after four, the target has all but made up its mind."""
    config = LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=128, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, bos_token_id=1, eos_token_id=2,
        pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.model.layers[4:]:
            layer.self_attn.o_proj.weight.mul_(0.01)
            layer.mlp.down_proj.weight.mul_(0.01)
    return model.requires_grad_(False)


class Untimed(DEL):
    """What its target's passes really take on this machine says nothing about the choices that are tested."""

    def observe(self, rounds: list[RowRound]) -> None:  # type: ignore[override]
        super().observe(rounds)
        self._verify_overrun = 1.0
        self._draft_overrun.clear()


@pytest.mark.parametrize("begin", [1, 4])
def test_it_finds_the_exit_that_knows_and_leaves_the_text_alone(deep_llama: PreTrainedModel, begin: int) -> None:
    prompts = random_prompts(3)
    plain = decode(session_of(TransformersModel(deep_llama), None), prompts, 60)
    drafter = EarlyExit(begin, candidates=(1, 2, 4))
    session = session_of(TransformersModel(deep_llama), drafter, policy=Untimed(), costs=FLAT)
    session.open(prompts, max_new_tokens=60)
    exits = drafter.spec.exits
    assert exits is not None
    going, used = list(prompts), []
    while going:
        going = [outcome.row for outcome in session.round(going) if not outcome.done]
        used.append(exits.layer)
    assert {row: session.rows[row].output for row in prompts} == plain
    assert exits.acceptance(0, 4) > 0.8 > 0.4 > exits.acceptance(0, 1)
    assert set(used[len(used) // 2 :]) == {4}
