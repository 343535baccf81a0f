"""Our own forward pass against plain forwards of the families that it runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from transformers import PreTrainedModel

from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.model import CachedModel, LayeredModel
from tests.drafting.backends import reference

FAMILIES = ("llama", "mistral", "mistral_window", "qwen2", "qwen3")

Check = Callable[[CachedModel, PreTrainedModel], None]


@pytest.fixture(scope="module", params=FAMILIES)
def plain(request: pytest.FixtureRequest) -> PreTrainedModel:
    model: PreTrainedModel = request.getfixturevalue(f"tiny_{request.param}")
    return model


@pytest.fixture(scope="module")
def cached(plain: PreTrainedModel) -> LeanLlama:
    return LeanLlama.from_transformers(plain)


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
        reference.check_taps_and_head,
        reference.check_layers,
        reference.check_early_exit,
        reference.check_whole_context,
        reference.check_random_life,
    ],
    ids=lambda check: check.__name__.removeprefix("check_"),
)
def test_every_family_agrees_with_its_plain_forward(check: Check, cached: LeanLlama, plain: PreTrainedModel) -> None:
    check(cached, plain)


def test_wrong_calls_are_refused_and_change_nothing(cached: LeanLlama) -> None:
    assert isinstance(cached, LayeredModel)
    reference.check_refusals(cached)
