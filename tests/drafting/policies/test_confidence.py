"""Confidence drafts until the draft model is unsure of a token, keeps that token, and stops."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DrafterSpec, DraftRequest, StepSignal
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.policies.catalogue import create_policy
from draftproof.drafting.policies.confidence import Confidence
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import UsageError
from tests.drafting.drafters.decoding import decode, random_prompts, session_of

PROMPT = [5, 17, 44, 8, 9, 23]
SAMPLINGS = [pytest.param(GREEDY, id="greedy"), pytest.param(Sampling(temperature=0.7, seed=3), id="sampled")]
STEPWISE = DrafterSpec("some", max_nodes=20, max_depth=20, law="reject", stepwise=True)


def signal(top_probability: float, probability: float = 0.01) -> StepSignal:
    return StepSignal(0, 1, top_probability, probability)


class Noted(SmallLM):
    """Notes its drafts, and what the policy was told of each of their tokens."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.rounds: list[tuple[list[int], list[StepSignal]]] = []

    def propose(self, request: DraftRequest) -> Draft:
        told: list[StepSignal] = []

        def go_on(signal: StepSignal) -> bool:
            told.append(signal)
            assert request.go_on is not None
            return request.go_on(signal)

        draft = super().propose(replace(request, go_on=go_on))
        self.rounds.append((draft.tree(0)[0], told))
        return draft


def rounds_of(
    target: PreTrainedModel, draft_model: PreTrainedModel, policy: Confidence, sampling: Sampling, count: int = 60
) -> list[tuple[list[int], list[StepSignal]]]:
    """Drafts of one row, but for the last ones, which its limit of tokens may have cut."""
    drafter = Noted(TransformersModel(draft_model))
    session = session_of(TransformersModel(target), drafter, policy=policy)
    session.open({0: PROMPT}, sampling=sampling, max_new_tokens=count + 20, stop_ids=frozenset())
    while len(session.rows[0].tokens) < len(PROMPT) + count - 20:
        session.round([0])
    session.close([0])
    return drafter.rounds


class Throwing(Confidence):
    """Goes on after an unsure token."""

    def go_on(self, signal: StepSignal) -> bool:
        return True


def sureness(rounds: list[tuple[list[int], list[StepSignal]]]) -> list[float]:
    return [signal.top_probability for _, told in rounds for signal in told]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_drafts_end_with_the_first_token_that_the_draft_model_was_unsure_of(
    tiny_llama: PreTrainedModel, tiny_draft_llama: PreTrainedModel, sampling: Sampling
) -> None:
    endless = rounds_of(tiny_llama, tiny_draft_llama, Throwing(draft_length=6), sampling)
    assert {len(tokens) for tokens, _ in endless} == {6}, "the negative control: a policy that does not stop shows"
    threshold = statistics.median(sureness(endless))
    lengths = set()
    for tokens, told in rounds_of(tiny_llama, tiny_draft_llama, Confidence(threshold, draft_length=6), sampling):
        unsure = [at for at, signal in enumerate(told, start=1) if signal.top_probability < threshold]
        assert len(tokens) == min([*unsure, 6]), "the unsure token is drafted, and nothing after it"
        lengths.add(len(tokens))
    assert len(lengths) > 1, "drafts of one length would be no evidence"


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_draft_is_no_longer_than_asked_for_however_sure_the_draft_model_is(
    tiny_llama: PreTrainedModel, tiny_draft_llama: PreTrainedModel, length: int
) -> None:
    rounds = rounds_of(tiny_llama, tiny_draft_llama, Confidence(0.0, draft_length=length), GREEDY, count=30)
    assert {len(tokens) for tokens, _ in rounds} == ({length} if length else set())


def test_what_the_drafter_can_make_is_not_exceeded() -> None:
    policy = Confidence(draft_length=50)
    policy.bind(None, STEPWISE)
    assert policy.budgets([3, 1]) == (20, 20)


def test_the_threshold_is_met_by_a_probability_as_large() -> None:
    """What counts is how sure the model was of any token, not how probable the one that was drawn is."""
    policy = Confidence(0.4)
    assert policy.go_on(signal(0.4))
    assert not policy.go_on(signal(0.399))
    assert not policy.go_on(signal(0.3, probability=0.3))
    assert policy.go_on(signal(0.9, probability=0.001))
    assert all(Confidence(0.0).go_on(signal(top)) for top in (0.0, 0.01, 1.0))
    assert [Confidence(1.0).go_on(signal(top)) for top in (0.999, 1.0)] == [False, True]


def test_greedy_text_is_that_of_plain_decoding(tiny_llama: PreTrainedModel, tiny_draft_llama: PreTrainedModel) -> None:
    prompts = random_prompts(6)
    plain = decode(session_of(TransformersModel(tiny_llama), None), prompts, 24)
    drafter = SmallLM(TransformersModel(tiny_draft_llama))
    session = session_of(TransformersModel(tiny_llama), drafter, policy=Confidence(0.3, draft_length=6))
    assert decode(session, prompts, 24) == plain


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_threshold_that_is_no_probability_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="must be a probability"):
        Confidence(threshold)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(UsageError, match="draft_length is -1"):
        Confidence(draft_length=-1)


def test_it_is_made_by_name() -> None:
    policy = create_policy("confidence", threshold=0.7, draft_length=3)
    assert isinstance(policy, Confidence)
    assert (policy.threshold, policy.draft_length, policy.name, policy.needs_costs) == (0.7, 3, "confidence", False)
