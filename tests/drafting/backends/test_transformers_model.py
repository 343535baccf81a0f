"""The reference backend against plain forwards of every family."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.model import CachedModel, LayeredModel
from tests.drafting.backends import reference

FAMILIES = (
    "llama",
    "mistral",
    "mistral_window",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "gpt2",
    "gpt_neox",
    "phi",
)
LAYERED = ("llama", "mistral", "mistral_window", "qwen2", "qwen3")

Check = Callable[[CachedModel, PreTrainedModel], None]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def plain(family: str, request: pytest.FixtureRequest) -> PreTrainedModel:
    model: PreTrainedModel = request.getfixturevalue(f"tiny_{family}")
    return model


@pytest.fixture(scope="module")
def cached(plain: PreTrainedModel) -> TransformersModel:
    return TransformersModel(plain)


@pytest.mark.parametrize(
    "check",
    [
        reference.check_prefill_and_chain,
        reference.check_logits_wanted,
        reference.check_tree,
        reference.check_ragged_batch,
        reference.check_rows_that_begin_together,
        reference.check_scratch_over_passes,
        reference.check_commit_of_a_path,
        reference.check_truncate,
        reference.check_whole_context,
        reference.check_random_life,
    ],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
def test_every_family_agrees_with_its_plain_forward(
    check: Check, cached: TransformersModel, plain: PreTrainedModel
) -> None:
    check(cached, plain)


def test_taps_embeddings_and_head_are_the_models_own(
    cached: TransformersModel, plain: PreTrainedModel, family: str
) -> None:
    reference.check_taps_and_head(cached, plain, learned_positions=family == "gpt2")


def test_wrong_calls_are_refused_and_change_nothing(cached: TransformersModel) -> None:
    reference.check_refusals(cached)


@pytest.mark.parametrize("family", LAYERED, indirect=True)
def test_layers_run_in_part_and_resumed_give_the_numbers_of_a_full_pass(
    cached: TransformersModel, plain: PreTrainedModel
) -> None:
    assert isinstance(cached, LayeredModel)
    assert cached.supports_layers
    reference.check_layers(cached, plain)
    reference.check_early_exit(cached, plain)
