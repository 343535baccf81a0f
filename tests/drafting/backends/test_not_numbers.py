"""Weights and activations that are not numbers are named as what they are, before anything is decoded with them.

The reference backend runs its check of masks and positions at construction, and NaN would look like a wrong mask there.
The lean backend makes no trial pass: the rules refuse the first row of its logits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.model import CachedModel
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.session import Session
from draftproof.errors import NumericalError

DAMAGED = "model.layers.1.mlp.up_proj.weight"
SAMPLINGS = [pytest.param(GREEDY, id="greedy"), pytest.param(Sampling(temperature=0.8, seed=1), id="sampled")]


def damaged(model: PreTrainedModel, name: str, value: float, row: int = 7) -> PreTrainedModel:
    """A copy with one number of one weight replaced."""
    other = copy.deepcopy(model)
    other.get_parameter(name).data[row, 3] = value
    return other


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_damaged_weight_is_named_when_the_model_is_wrapped(tiny_llama: PreTrainedModel, value: float) -> None:
    with pytest.raises(NumericalError, match=rf"weight {DAMAGED} holds NaN or infinity.*plain forward") as caught:
        TransformersModel(damaged(tiny_llama, DAMAGED, value))
    assert "fetch or train them again" in str(caught.value.remedy)
    TransformersModel(damaged(tiny_llama, DAMAGED, 0.25))  # the negative control: a number in the same place


def test_activations_that_overflow_are_not_blamed_on_a_weight(tiny_llama: PreTrainedModel) -> None:
    loud = copy.deepcopy(tiny_llama)
    loud.get_parameter("lm_head.weight").data.mul_(1e38)
    with pytest.raises(NumericalError, match="Its weights are all numbers") as caught:
        TransformersModel(loud)
    assert "overflow float32" in str(caught.value.remedy)


def test_a_forward_that_fails_on_trees_alone_says_so(tiny_llama: PreTrainedModel) -> None:
    spoilt = copy.deepcopy(tiny_llama)

    def spoil(module: torch.nn.Module, args: object, kwargs: dict[str, object], output: object) -> None:
        if kwargs.get("past_key_values") is not None:
            output.logits.fill_(float("nan"))  # type: ignore[attr-defined]

    spoilt.register_forward_hook(spoil, with_kwargs=True)
    with pytest.raises(NumericalError, match="for a small token tree, though not in its plain forward"):
        TransformersModel(spoilt)


def opened(model: CachedModel, prompt: list[int], sampling: Sampling) -> Session:
    session = Session(model, None, create_rule("auto"), Fixed())
    session.open({0: prompt}, sampling=sampling, max_new_tokens=5, stop_ids=frozenset())
    return session


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_damaged_weight_stops_the_lean_backend_at_its_first_pass(
    tiny_llama: PreTrainedModel, sampling: Sampling
) -> None:
    model = LeanLlama.from_transformers(damaged(tiny_llama, DAMAGED, float("nan")))
    with pytest.raises(NumericalError, match="NaN") as caught:
        opened(model, [5, 6, 7], sampling)
    assert "weights" in str(caught.value.remedy)
    model.add_row(0)  # nothing of the row that could not be opened is left
    assert opened(LeanLlama.from_transformers(damaged(tiny_llama, DAMAGED, 0.25)), [5, 6, 7], sampling).rows


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("wrap", [TransformersModel, LeanLlama.from_transformers], ids=["transformers", "lean"])
def test_damage_that_only_one_token_meets_stops_the_text_that_holds_it(
    tiny_llama: PreTrainedModel, wrap: Callable[[PreTrainedModel], CachedModel], sampling: Sampling
) -> None:
    """No trial pass could find it: one row of the embeddings."""
    model = wrap(damaged(tiny_llama, "model.embed_tokens.weight", float("nan"), row=50))
    assert opened(model, [5, 6, 7], sampling).rows
    with pytest.raises(NumericalError, match="NaN"):
        opened(wrap(damaged(tiny_llama, "model.embed_tokens.weight", float("nan"), row=50)), [5, 50, 7], sampling)
