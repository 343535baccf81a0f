"""Keyed random numbers: the published generator, one value however it is asked for, ranges that rules rely on."""

from __future__ import annotations

import pytest
import torch

from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.kernels.philox import (
    exponential_of,
    exponential_row,
    exponentials,
    philox,
    uniform_of,
    word,
    word_row,
    words,
)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        pytest.param(
            (0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8), id="all zeros of Random123"
        ),
        pytest.param(
            (0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD), id="all ones"
        ),
        pytest.param(
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
            id="digits of pi",
        ),
    ],
)
def test_the_published_vectors_hold(counter, key, expected):
    assert philox(counter, key) == expected
    assert tuple(int(w) for w in philox(tuple(torch.tensor([c]) for c in counter), key)) == expected


def test_a_word_is_the_same_alone_in_a_row_among_chosen_ids_and_in_tensors():
    address = (2**62 + 12345, 3, 2**32 - 1, 9)
    row = torch.from_numpy(word_row(*address, 1003).astype("int64"))
    chosen = torch.tensor([[1002, 0], [7, 501]])
    assert torch.equal(words(*address, chosen), row[chosen])
    assert [word(*address, int(i)) for i in (0, 6, 1002)] == row[[0, 6, 1002]].tolist()
    block = torch.arange(251)
    like = [torch.full_like(block, value) for value in (address[2], address[1], address[3])]
    key = (address[0] & 0xFFFFFFFF, address[0] >> 32)
    assert torch.equal(torch.stack(philox((block, *like), key), dim=1).reshape(-1)[:1003], row)


def test_each_part_of_the_address_moves_the_number():
    base = {"seed": 1, "purpose": 1, "position": 1, "lane": 1, "index": 1}
    moved = [word(**(base | {part: 2})) for part in base]
    moved.append(word(**(base | {"seed": 1 + 2**32})))
    assert len({*moved, word(**base)}) == 7


def test_exponentials_do_not_depend_on_how_they_are_asked_for():
    row = exponential_row(5, 3, 17, 0, 1001)
    ids = torch.arange(1001)
    assert torch.equal(row, exponentials(5, 3, 17, 0, ids))
    assert torch.equal(row[3::7], exponentials(5, 3, 17, 0, ids[3::7]))
    rng = KeyedRng(5)
    assert torch.equal(row, rng.exponential_row(Purpose.TARGET, 17, 1001))
    assert torch.equal(row[:9], rng.exponentials(Purpose.TARGET, 17, ids[:9]))
    assert rng.uniform(Purpose.ACCEPT, 8, 2) == float(uniform_of(torch.tensor([word(5, 1, 8, 2)]))[0])


def test_uniforms_lie_inside_the_open_interval_and_exponentials_are_positive_and_finite():
    ends = torch.tensor([0, 1, 2**31, 2**32 - 1])
    uniform = uniform_of(ends)
    assert (uniform > 0).all()
    assert (uniform < 1).all()
    exponential = exponential_of(ends)
    assert (exponential > 0).all()
    assert exponential.isfinite().all()


def test_small_exponentials_are_fine_enough_for_rare_tokens():
    """Of 2^32 words, those that give E < t are t 2^32, also at t = 1e-8: a race must not starve tokens of that mass."""
    exact = -torch.log1p(-(torch.arange(64, dtype=torch.float64) + 0.5) * 2.0**-32)
    assert torch.allclose(exponential_of(torch.arange(64)).double(), exact, rtol=1e-6, atol=0)


def test_moments_of_the_streams():
    row = exponential_row(11, 2, 3, 0, 200_000).double()
    assert abs(row.mean().item() - 1) < 4 / 200_000**0.5
    assert abs((row**2).mean().item() - 2) < 4 * (20 / 200_000) ** 0.5
    uniform = uniform_of(words(11, 1, 3, 0, torch.arange(200_000))).double()
    assert abs(uniform.mean().item() - 0.5) < 4 * (1 / 12 / 200_000) ** 0.5
