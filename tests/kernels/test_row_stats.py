"""Row statistics: the definition against sorting and summing in float64, the kernel against the definition."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from draftproof.kernels import threshold_triton
from draftproof.kernels.row_law import probs
from draftproof.kernels.row_stats import RowStats, row_stats_torch
from draftproof.kernels.row_stats_triton import row_stats_triton

INF = float("inf")


def kept_by_sorting(z: torch.Tensor, k: int, p: float) -> set[int]:
    """Top-k, then top-p of what is left, token by token down the sorted row, ties with the last one kept."""
    order = sorted(range(z.shape[0]), key=lambda i: -float(z[i]))
    if 0 < k < len(order):
        order = [i for i in order if z[i] >= z[order[k - 1]]]
    if p < 1.0:
        mass = z[order].double().softmax(-1)
        total, count = 0.0, 0
        while total < p - 1e-12:
            total += float(mass[count])
            count += 1
        order = [i for i in order if z[i] >= z[order[count - 1]]]
    return set(order)


@pytest.mark.parametrize("k", [0, 1, 7, 31, 500])
@pytest.mark.parametrize("p", [1.0, 0.99, 0.5, 0.01])
def test_what_is_kept_is_what_sorting_keeps(k, p):
    g = torch.Generator().manual_seed(k)
    logits = 3.0 * torch.randn(4, 97, generator=g)
    logits[1] = logits[1].round()  # ties, at the threshold too
    logits[2, 5:60] = -INF
    logits[3] = 0.0
    inv_temp = torch.tensor([1.0, 0.5, 2.0, 1.0])
    stats = row_stats_torch(logits, inv_temp, top_k=torch.full((4,), k), top_p=torch.full((4,), p))
    law = probs(logits, stats.law).double()
    assert torch.allclose(law.sum(-1), torch.ones(4, dtype=torch.float64), atol=1e-5)
    for row in range(4):
        z = logits[row] * inv_temp[row]
        keeps = {i for i in range(97) if z[i] >= stats.threshold[row]}
        assert keeps == kept_by_sorting(z, k, p)
        exact = torch.where(torch.tensor([i in keeps for i in range(97)]), z, -INF).double().softmax(-1)
        assert torch.allclose(law[row], exact, atol=1e-6)
        assert abs(float(stats.entropy[row]) + float((exact * exact.clamp(min=1e-300).log()).sum())) < 1e-4
        top = z.topk(2).values
        assert float(stats.margin[row]) == float(top[0] - top[1])


def rows(vocab: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(vocab)
    logits = 3.0 * torch.randn(6, vocab, generator=g)
    logits[1] = logits[1].round()
    logits[2, ::2] = -INF
    logits[2, 0] = 1.5  # finite, also when there is one token only
    logits[4, vocab // 3] = torch.nan
    logits[5] = -INF
    return logits.to(dtype), torch.tensor([1.0, 0.7, 2.0, 0.0, 1.0, 1.0])


P = [0.9, 0.5, 0.01, 0.5, 0.5, 0.5]
CASES = [
    pytest.param(1, 16, torch.float32, {}, id="one token"),
    pytest.param(31, 16, torch.float32, {"ids": [3, 31, 30, -1, 2, 2]}, id="ids, out of range on both sides"),
    pytest.param(97, 32, torch.bfloat16, {"top_k": [1, 5, 60, 4, 3, 2]}, id="top-k, with ties and beyond the finite"),
    pytest.param(97, 32, torch.float32, {"top_p": P, "ids": [0, 1, 2, 3, 4, 5]}, id="top-p"),
    pytest.param(1000, 256, torch.float16, {"top_k": [50, 0, 20, 3, 5, 5], "top_p": P}, id="both"),
]


@pytest.mark.parametrize(("vocab", "block", "dtype", "options"), CASES)
def test_the_kernel_agrees_with_the_definition(vocab, block, dtype, options, device):
    logits, inv_temp = rows(vocab, dtype)
    options = {name: torch.tensor(values) for name, values in options.items()}
    expected = row_stats_torch(logits, inv_temp, **options)
    on = {name: values.to(device) for name, values in options.items()}
    found = row_stats_triton(logits.to(device), inv_temp.to(device), block=block, **on)
    for field in fields(RowStats):
        one, other = getattr(expected, field.name), getattr(found, field.name).cpu()
        assert one.dtype == other.dtype, field.name
        if field.name in ("argmax", "bad", "threshold", "inv_temp"):
            one, other = one.nan_to_num(9.0), other.nan_to_num(9.0)  # a threshold is a logit of the row, to the bit
            assert torch.equal(one, other), (field.name, one, other)
        else:
            torch.testing.assert_close(other, one, rtol=3e-6, atol=3e-6, equal_nan=True, msg=field.name)


def test_a_threshold_short_of_one_digit_would_show(device, monkeypatch):
    monkeypatch.setattr(threshold_triton, "DIGITS", 7)
    logits, inv_temp = rows(97, torch.float32)
    limit = torch.full((6,), 5)
    expected = row_stats_torch(logits, inv_temp, top_k=limit).threshold
    found = row_stats_triton(logits.to(device), inv_temp.to(device), top_k=limit.to(device), block=128).threshold.cpu()
    assert not torch.equal(expected[:3], found[:3])


def test_positive_infinity_makes_a_row_bad_even_beside_nan_free_neighbours(device):
    logits, inv_temp = rows(31, torch.float32)
    logits[0, 30] = INF
    for stats in (row_stats_torch(logits, inv_temp), row_stats_triton(logits.to(device), inv_temp.to(device))):
        assert stats.bad.tolist() == [True, False, False, False, True, True]
        assert stats.argmax.tolist()[0] == -1
        assert stats.lse[0].isnan()
