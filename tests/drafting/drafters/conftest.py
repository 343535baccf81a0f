"""The target and the parts that drafters under contract are built from."""

from __future__ import annotations

import pytest
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from tests.drafting.drafters.factories import Tiny


@pytest.fixture(scope="session")
def tiny(tiny_llama: PreTrainedModel, tiny_draft_llama: PreTrainedModel) -> Tiny:
    return Tiny(TransformersModel(tiny_llama, name="tiny-llama"), tiny_draft_llama)
