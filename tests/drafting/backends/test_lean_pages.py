"""Huge pages change where memory lies for the processor, and nothing that a program sees."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends import lean_llama, lean_pages
from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.lean_pages import PAGE, gather, well_used
from draftproof.drafting.backends.packed_linear import PackedLinear, best_layout


def test_pages_that_are_mostly_unused_are_left_alone() -> None:
    most = int(0.9 * PAGE)
    assert well_used([(10 * PAGE, PAGE)]) == [10 * PAGE]
    assert well_used([(10 * PAGE, most)]) == [10 * PAGE]
    assert well_used([(10 * PAGE, PAGE // 2)]) == []
    assert well_used([(10 * PAGE + PAGE // 2, PAGE + most)]) == [11 * PAGE]
    assert well_used([(11 * PAGE - most, 3 * most)]) == [10 * PAGE, 11 * PAGE]
    assert well_used([]) == []


def test_blocks_that_share_a_page_count_together() -> None:
    part = int(0.45 * PAGE)
    assert well_used([(7 * PAGE, part)]) == []
    assert well_used([(7 * PAGE, part), (8 * PAGE - part, part)]) == [7 * PAGE]


def test_what_is_gathered_keeps_its_content_and_its_place() -> None:
    numbers = torch.randn(4 * PAGE)
    before, address = numbers.clone(), numbers.data_ptr()
    assert 0 <= gather([(address, 4 * numbers.numel())]) <= 16
    assert numbers.data_ptr() == address
    assert torch.equal(numbers, before)


def test_an_address_that_is_nobodys_is_passed_over() -> None:
    assert gather([(0, PAGE), (2**46 + PAGE, PAGE)]) == 0


def test_a_system_without_huge_pages_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean_pages.sys, "platform", "darwin")
    monkeypatch.setattr(lean_pages.ctypes, "CDLL", lambda name: pytest.fail("asked the system"))
    assert gather([(0, PAGE)]) == 0


def test_a_packed_weight_knows_where_it_lies() -> None:
    for layout in {best_layout(), "plain"}:
        address, size = PackedLinear(torch.randn(300, 100), layout=layout).memory
        assert address > 0
        assert size >= 300 * 100 * 4


def test_every_matrix_of_a_model_is_gathered(tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(lean_llama, "gather", lambda blocks: asked.extend(blocks))
    LeanLlama.from_transformers(tiny_llama)
    matrices = [parameter for parameter in tiny_llama.parameters() if parameter.dim() == 2]
    embeddings = tiny_llama.get_input_embeddings().weight
    numbers = sum(each.numel() for each in matrices) - embeddings.numel()
    assert 4 * numbers <= sum(size for _, size in asked) < 4.2 * numbers  # the last panel of a matrix is padded
