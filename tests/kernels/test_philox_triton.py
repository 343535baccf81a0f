"""The random numbers of the Triton kernels are those of the definition, at every address."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from draftproof.kernels.philox import exponential_row, uniforms
from draftproof.kernels.philox_triton import exponential_tile, natural_log, philox_words, uniform_at

ADDRESSES = [
    pytest.param(0, 0, 0, id="zeros"),
    pytest.param(2**62 + 12_345, 2**31 + 5, 3, id="beyond 32 bits of seed and 31 of position, a lane"),
]


@triton.jit
def _numbers(address, words, uniform, exponential, BLOCK: tl.constexpr):
    seed, position, lane = tl.load(address), tl.load(address + 1), tl.load(address + 2)
    index = tl.arange(0, BLOCK)
    w0, _, _, w3 = philox_words(seed, 1, position, lane, index)
    tl.store(words + index, w0.to(tl.int64))
    tl.store(words + BLOCK + index, w3.to(tl.int64))
    tl.store(uniform + index, uniform_at(seed, 1, position + index, lane))
    tl.store(exponential + index, exponential_tile(seed, 3, position, BLOCK, BLOCK))


@triton.jit
def _logs(x, y, BLOCK: tl.constexpr):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + index, natural_log(tl.load(x + index)))


@pytest.mark.parametrize(("seed", "position", "lane"), ADDRESSES)
def test_words_and_numbers_are_those_of_the_definition(seed, position, lane, device):
    from draftproof.kernels.philox import words as words_of

    words, uniform, exponential = (
        torch.empty(128, dtype=torch.int64, device=device),
        torch.empty(64, device=device),
        torch.empty(64, device=device),
    )
    _numbers[(1,)](torch.tensor([seed, position, lane], device=device), words, uniform, exponential, BLOCK=64)
    index = torch.arange(64)
    expected = torch.cat([words_of(seed, 1, position, lane, 4 * index + j) for j in (0, 3)])
    assert torch.equal(words.cpu(), expected)
    each = torch.cat([uniforms(seed, 1, position + i, lane, torch.zeros(1, dtype=torch.int64)) for i in range(64)])
    assert torch.equal(uniform.cpu(), each)
    assert torch.allclose(exponential.cpu(), exponential_row(seed, 3, position, 0, 128)[64:], rtol=3e-7, atol=0)


def test_a_dropped_lane_would_show(device):
    found = [torch.empty(64, device=device) for _ in range(2)]
    for lane, uniform in enumerate(found):
        scrap = torch.empty(128, dtype=torch.int64, device=device), torch.empty(64, device=device)
        _numbers[(1,)](torch.tensor([5, 7, lane], device=device), scrap[0], uniform, scrap[1], BLOCK=64)
    assert (found[0] != found[1]).all()


def test_the_logarithm_is_exact_where_races_are_won(device):
    """Just below 1, where an approximate base-2 logarithm has no correct digit left."""
    near = 1.0 - torch.arange(1, 1025, dtype=torch.float32) * 2.0**-24
    wide = torch.logspace(-20, 38, 1024, base=2.0)
    x = torch.cat([near, wide]).to(device)
    y = torch.empty_like(x)
    _logs[(2,)](x, y, BLOCK=1024)
    exact = x.cpu().double().log()
    relative = ((y.cpu().double() - exact) / exact.where(exact != 0, torch.ones_like(exact))).abs()
    assert relative.max() < 1.5e-7
    approximate = (x.cpu().log2() * 0.6931472).double()
    rounded = (approximate[:8] * 2**22).round() / 2**22  # the absolute error that such an instruction may have
    assert ((rounded - exact[:8]) / exact[:8]).abs().max() > 0.1
