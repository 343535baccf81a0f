"""SpecDec++ stops by its head, and by nothing that it must not look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.drafter import DrafterSpec, StepSignal
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.policies.catalogue import create_policy
from draftproof.drafting.policies.specdecpp import SpecDecPP
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.training.acceptance_head import AcceptanceHead, save_acceptance_head
from draftproof.errors import UsageError
from tests.drafting.drafters.decoding import decode, random_prompts, session_of

STEPWISE = DrafterSpec("some", max_nodes=20, max_depth=20, law="reject", stepwise=True)


def constant_head(probability: float, width: int = 8) -> AcceptanceHead:
    """Says the same of every state."""
    head = AcceptanceHead(width, n_layers=1).requires_grad_(False)
    head.score.weight.zero_()
    head.score.bias.fill_(float(torch.logit(torch.tensor(probability))))
    return head


def signal(step: int, hidden: Tensor | None, row: int = 0) -> StepSignal:
    return StepSignal(row, step, 0.5, 0.5, hidden)


def length(policy: SpecDecPP, most: int = 20) -> int:
    """Tokens drafted until the policy says stop."""
    return next((step for step in range(1, most) if not policy.go_on(signal(step, torch.ones(8)))), most)


def test_drafting_stops_when_a_rejection_is_likely() -> None:
    # After k states, the first of which belongs to the pending token, 0.8^(k-1) of all drafts survive:
    # 1 - 0.8^5 = 0.67 and 1 - 0.8^6 = 0.74.
    assert length(SpecDecPP(constant_head(0.8), threshold=0.7)) == 7
    assert length(SpecDecPP(constant_head(0.8), threshold=0.3)) == 3
    assert length(SpecDecPP(constant_head(0.999), threshold=0.7)) == 20


def test_the_least_length_is_drafted_whatever_the_head_says() -> None:
    assert length(SpecDecPP(constant_head(0.01), threshold=0.1)) == 2
    assert length(SpecDecPP(constant_head(0.01), threshold=0.1, least=5)) == 5


def test_each_round_and_each_row_begins_anew() -> None:
    policy = SpecDecPP(constant_head(0.6), threshold=0.7)
    assert [length(policy), length(policy)] == [4, 4]
    policy.go_on(signal(1, torch.ones(8), row=1))
    assert policy.go_on(signal(2, torch.ones(8), row=1))
    policy.forget([0, 1])


def test_the_first_state_is_that_of_a_verified_token_and_is_not_judged() -> None:
    class Suspicious(AcceptanceHead):
        asked = 0

        def probability(self, state: Tensor) -> float:
            self.asked += 1
            return 0.0

    head = Suspicious(8, n_layers=1)
    policy = SpecDecPP(head, threshold=0.7, least=1)
    assert policy.go_on(signal(1, torch.ones(8)))
    assert head.asked == 0
    assert not policy.go_on(signal(2, torch.ones(8)))
    assert head.asked == 1


def test_the_state_decides_and_not_the_drawn_token() -> None:
    head = AcceptanceHead(8, n_layers=1).requires_grad_(False)
    head.score.weight.copy_(torch.tensor([[9.0] + [0.0] * 7]))
    policy = SpecDecPP(head, threshold=0.5, least=1)
    good, bad = torch.eye(8)[0], -torch.eye(8)[0]
    for probability in (0.01, 0.99):
        policy.go_on(StepSignal(0, 1, 0.9, probability, good))
        assert policy.go_on(StepSignal(0, 2, 0.9, probability, good))
        assert not policy.go_on(StepSignal(0, 3, 0.9, probability, bad))


def test_without_a_head_it_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"draftproof train acceptance-head.*'confidence'"):
        create_policy("specdec++")


def test_a_head_may_be_named_by_its_folder(tmp_path: Path) -> None:
    save_acceptance_head(tmp_path, constant_head(0.8), draft_digest="a", target_digest="b", figures={})
    policy = create_policy("specdec++", head=str(tmp_path), threshold=0.3)
    assert isinstance(policy, SpecDecPP)
    assert length(policy) == 3


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"least": 0}, {"least": 30}, {"draft_length": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        SpecDecPP(constant_head(0.5), **wrong)  # type: ignore[arg-type]


def test_drafters_without_states_are_refused() -> None:
    policy = SpecDecPP(constant_head(0.5))
    policy.bind(None, STEPWISE)
    with pytest.raises(UsageError, match="token by token"):
        policy.bind(None, DrafterSpec("lookup"))
    with pytest.raises(UsageError, match="hidden states"):
        policy.go_on(signal(1, None))
    with pytest.raises(UsageError, match="width 8"):
        policy.go_on(signal(1, torch.ones(9)))


def test_a_head_of_another_draft_model_is_refused(tmp_path: Path, tiny_draft_llama: PreTrainedModel) -> None:
    model = TransformersModel(tiny_draft_llama)
    for folder, digest in (("own", model.info.digest), ("other", "sha256:" + "0" * 64)):
        save_acceptance_head(
            tmp_path / folder, constant_head(0.8, width=64), draft_digest=digest, target_digest="b", figures={}
        )
    drafter = SmallLM(model)
    create_policy("specdec++", head=str(tmp_path / "own")).bind(None, drafter.spec)
    with pytest.raises(UsageError, match=r"trained for another draft model \(sha256:000"):
        create_policy("specdec++", head=str(tmp_path / "other")).bind(None, drafter.spec)
    with pytest.raises(UsageError, match="'some' are not those of one draft model"):
        create_policy("specdec++", head=str(tmp_path / "own")).bind(None, STEPWISE)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_text_is_the_same_and_drafts_are_shorter_when_the_head_doubts(
    temperature: float, tiny_llama: PreTrainedModel, tiny_draft_llama: PreTrainedModel
) -> None:
    target, prompts = TransformersModel(tiny_llama), random_prompts(3)
    sampling = Sampling(temperature=temperature, seed=5)
    plain = decode(session_of(target, None), prompts, 20, sampling)
    drafted = {}
    for doubt in (0.99, 0.3):
        drafter = SmallLM(TransformersModel(tiny_draft_llama), law="match")
        policy = SpecDecPP(constant_head(doubt, width=64), threshold=0.5, draft_length=6)
        session = session_of(target, drafter, policy=policy)
        counts = []
        observe = policy.observe
        policy.observe = lambda rounds, observe=observe, counts=counts: (  # type: ignore[method-assign,misc]
            counts.extend(each.drafted for each in rounds),
            observe(rounds),
        )
        assert decode(session, prompts, 20, sampling) == plain
        drafted[doubt] = sum(counts) / len(counts)
    assert drafted[0.3] < drafted[0.99]
