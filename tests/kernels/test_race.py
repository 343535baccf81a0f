"""Draws by an exponential race: the short cut of the definition, the kernel, ties, bad rows, and the law."""

from __future__ import annotations

import pytest
import torch

from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.kernels import race, race_triton
from draftproof.kernels.race import draw_from_logits, draw_from_weights, target_draw_torch
from draftproof.kernels.race_triton import target_draw_triton

SHAPES = [
    pytest.param(31, 16, torch.float32, False, id="an odd vocabulary"),
    pytest.param(
        97, 32, torch.bfloat16, True, id="bfloat16, slices of several blocks, the last one short, a threshold"
    ),
    pytest.param(1000, 128, torch.float16, False, id="a block that does not divide the vocabulary"),
]


def unfiltered(z: torch.Tensor, seed: int, position: int) -> int:
    score = z - torch.log(KeyedRng(seed).exponentials(Purpose.TARGET, position, torch.arange(z.shape[0])))
    return int((score == score.max()).nonzero()[0])


def rows_of(vocab: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn(7, vocab, generator=g)
    inv_temp = torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0, 1.0, 1.0])
    logits[4] = logits[4].round()
    logits[5, 1:] = -torch.inf
    logits[6] = 0.0
    return logits, inv_temp, torch.arange(7) * 12_345_678_901, torch.arange(7) * 1000


@pytest.mark.parametrize("sharpness", [0.01, 1.0, 5.0, 50.0])
def test_drawing_only_for_tokens_that_can_win_changes_nothing(sharpness):
    g = torch.Generator().manual_seed(1)
    for seed in range(150):
        z = sharpness * torch.randn(1 + 3 * seed, generator=g)
        if seed % 3 == 0:
            z = z.round()
        assert draw_from_logits(z, seed, int(Purpose.TARGET), seed) == unfiltered(z, seed, seed)
        weights = z.softmax(-1)
        exponential = KeyedRng(seed).exponentials(Purpose.RESIDUAL, seed, torch.arange(z.shape[0]))
        assert draw_from_weights(weights, seed, int(Purpose.RESIDUAL), seed) == int((weights / exponential).argmax())


def test_too_narrow_a_filter_would_show(monkeypatch):
    monkeypatch.setattr(race, "GUMBEL_MAX", 5.0)
    g = torch.Generator().manual_seed(1)
    rows = [2.5 * torch.randn(400, generator=g) for _ in range(30)]
    assert any(draw_from_logits(z, s, int(Purpose.TARGET), s) != unfiltered(z, s, s) for s, z in enumerate(rows))


@pytest.mark.parametrize(("vocab", "block", "dtype", "cut"), SHAPES)
def test_the_kernel_draws_what_the_definition_draws(vocab, block, dtype, cut, device):
    logits, inv_temp, seeds, positions = rows_of(vocab)
    logits = logits.to(dtype)
    threshold = torch.tensor([0.75] * 5 + [-20.0, 0.0]) if cut else None
    expected = target_draw_torch(logits, inv_temp, threshold, seeds, positions)
    on = [t if t is None else t.to(device) for t in (logits, inv_temp, threshold, seeds, positions)]
    assert torch.equal(target_draw_triton(*on, block=block).cpu(), expected)


def test_rows_may_lie_apart(device):
    logits, inv_temp, seeds, positions = (t[:3].to(device) for t in rows_of(97))
    wide = torch.full((3, 300), torch.nan, device=device)
    wide[:, :97] = logits
    drawn = target_draw_triton(wide[:, :97], inv_temp, None, seeds, positions, block=32)
    assert torch.equal(drawn, target_draw_triton(logits, inv_temp, None, seeds, positions, block=32))
    on_cpu = [t.cpu() for t in (logits, inv_temp, seeds, positions)]
    assert torch.equal(drawn.cpu(), target_draw_torch(on_cpu[0], on_cpu[1], None, on_cpu[2], on_cpu[3]))


def test_a_row_may_begin_beyond_two_to_the_31st_element():
    """Row number and stride fit 32 bits, their product does not. Pages that are not touched take no memory."""
    if torch.cuda.is_available():
        pytest.skip("the rows would take 4 GiB of the device")
    logits, inv_temp, seeds, positions = (t[:3] for t in rows_of(97))
    stride = 2**30 + 3
    far = torch.tensor([], dtype=torch.bfloat16)
    far.set_(torch.UntypedStorage(2 * (2 * stride + 97)), 0, (3, 97), (stride, 1))
    far.copy_(logits)
    drawn = target_draw_triton(far, inv_temp, None, seeds, positions, block=128)
    assert torch.equal(drawn, target_draw_torch(logits.bfloat16(), inv_temp, None, seeds, positions))


def test_bad_rows_give_no_token(device):
    logits, _, seeds, positions = rows_of(97)
    inv_temp = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    logits[1, 90] = logits[4, 3] = torch.nan
    logits[2] = -torch.inf
    logits[3, 50] = logits[6, 5] = torch.inf
    drawn = target_draw_torch(logits, inv_temp, None, seeds, positions)
    assert (drawn < 0).tolist() == [False, True, True, True, True, False, True]
    on = [t.to(device) for t in (logits, inv_temp)]
    assert torch.equal(target_draw_triton(*on, None, seeds.to(device), positions.to(device), block=16).cpu(), drawn)


def test_ties_go_to_the_lowest_id_and_another_rule_would_show(device, monkeypatch):
    logits = torch.zeros((2, 97))
    logits[0, [40, 41, 80]] = 1.0
    arguments = [t.to(device) for t in (logits, torch.zeros(2), torch.zeros(2, dtype=torch.int64))]
    run = lambda: target_draw_triton(arguments[0], arguments[1], None, arguments[2], arguments[2], block=16)  # noqa: E731
    assert run().tolist() == [40, 0]
    if device.type == "cpu":
        monkeypatch.setattr(race_triton, "winner", _highest_id)
        assert run().tolist() != [40, 0]


def _highest_id(best, best_id):
    import triton.language as tl

    top = tl.max(best, axis=0)
    return top, tl.max(tl.where(best == top, best_id, -1), axis=0)


def test_the_law_is_the_softmax():
    """Chi-squared of 4,000 draws over 8 tokens: 7 degrees of freedom, 34 is passed once in 60,000."""
    z = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5, 0.5, -2.0, 1.5])
    drawn = torch.tensor([draw_from_logits(z, 3, int(Purpose.TARGET), i) for i in range(4000)])
    expected = z.softmax(-1) * 4000
    assert float(((drawn.bincount(minlength=8) - expected) ** 2 / expected).sum()) < 34
    colder = (1.2 * z).softmax(-1) * 4000
    assert float(((drawn.bincount(minlength=8) - colder) ** 2 / colder).sum()) > 34
