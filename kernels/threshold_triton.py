# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""The smallest scaled logit that top-k or top-p keeps, without a sort: a search in the bits of the float.

Floats order like integers once the bits of negative ones are turned over. Eight launches find eight hexadecimal digits
of the largest key t for which the tokens at or above t number k, or hold p of the mass; a key where that changes is a
key of the row, so the threshold is one of its logits, bit for bit. Each launch measures at 15 places between; the
next one, before its own measurement, adds up what all programs of its row found.
"""

import torch
import triton
import triton.language as tl

from draftproof.kernels.layout_triton import scale_of

DIGITS = 8


@triton.jit
def key_of(z):
    """int32 keys that order as the floats do."""
    bits = z.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _digit(
    logits,  # [R, V]
    row_stride,
    vocab,
    inv_temp,  # [R]
    floor,  # [R]: what an earlier restriction left
    limit,  # [R]: k as an integer, or p
    figures,  # [R, splits, 5]: of what the floor left; where BY_MASS
    lower,  # [9, R]: keys found so far, digit by digit
    measured,  # [8, R, splits, 16]
    found,  # out [R]
    rows,
    splits,
    per_split,
    digit,
    HAS_FLOOR: tl.constexpr,
    BY_MASS: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    temperature = tl.load(inv_temp + row)
    lowest = -float("inf")
    if HAS_FLOOR:
        lowest = tl.load(floor + row)

    top = 0.0
    if BY_MASS:
        share = tl.load(limit + row)
        active = (temperature != 0.0) & (share < 1.0)
        index = tl.arange(0, SPLITS)
        slices = figures + (row * splits + index) * 5
        tops = tl.load(slices, mask=index < splits, other=-float("inf"))
        totals = tl.load(slices + 2, mask=index < splits, other=0.0)
        top = tl.max(tops, axis=0)
        # a row without a finite logit has no mass to search in; it is found bad elsewhere
        active = active & (top > -float("inf"))
        top = tl.where(top > -float("inf"), top, 0.0)
        wanted = share * tl.sum(tl.where(tops > -float("inf"), tl.exp(tops - top), 0.0) * totals, axis=0)
    else:
        count = tl.load(limit + row)
        active = (temperature != 0.0) & (count > 0) & (count < vocab)
        wanted = count.to(tl.float32)

    if active:
        place = tl.arange(0, 16)
        key = row * 0 - 2147483648
        if not FIRST:
            key = tl.load(lower + (digit - 1) * rows + row)
            each = tl.arange(0, SPLITS)
            before = measured + (((digit - 1) * rows + row) * splits + each[:, None]) * 16 + place[None, :]
            counts = tl.sum(tl.load(before, mask=each[:, None] < splits, other=0.0), axis=0)
            reached = tl.max(tl.where((counts >= wanted) & (place > 0), place, 0), axis=0)
            key += reached.to(tl.int64) << (4 * (8 - digit))
        if not LAST:
            if split == 0:
                tl.store(lower + digit * rows + row, key)
            pivots = (key + (place.to(tl.int64) << (4 * (7 - digit)))).to(tl.int32)
            scale = scale_of(temperature)
            begin = split * per_split
            end = tl.minimum(begin + per_split, vocab)
            held = tl.zeros((16,), tl.float32)
            for first in range(begin, end, BLOCK):
                ids = first + tl.arange(0, BLOCK)
                z = tl.load(logits + row * row_stride + ids, mask=ids < end, other=-float("inf")).to(tl.float32) * scale
                # what lies below the floor adds to places below it only, and those are not where the answer is
                inside = ids < end
                weight = (
                    tl.where(inside, tl.exp(tl.where(inside, z - top, 0.0)), 0.0) if BY_MASS else inside.to(tl.float32)
                )
                above = key_of(z)[:, None] >= pivots[None, :]
                held += tl.sum(tl.where(above, weight[:, None], 0.0), axis=0)
            tl.store(measured + ((digit * rows + row) * splits + split) * 16 + place, held)
        elif split == 0:
            bits = key.to(tl.int32)
            bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
            # keys below that of -inf are no floats: rounding left the whole row short of p, and all of it is kept
            number = bits.to(tl.float32, bitcast=True)
            tl.store(found + row, tl.where(number >= lowest, number, lowest))
    elif LAST and split == 0:
        tl.store(found + row, lowest)


def find_thresholds(logits, inv_temp, floor, limit, figures, splits, per_split, block):
    """[R] thresholds: by mass where `figures` of the slices above `floor` are given, else by count."""
    rows, vocab = logits.shape
    device = logits.device
    lower = torch.empty((DIGITS + 1, rows), dtype=torch.int64, device=device)
    measured = torch.empty((DIGITS, rows, splits, 16), dtype=torch.float32, device=device)
    found = torch.empty((rows,), dtype=torch.float32, device=device)
    for digit in range(DIGITS + 1):
        _digit[(rows, splits if digit < DIGITS else 1)](
            logits,
            logits.stride(0),
            vocab,
            inv_temp,
            inv_temp if floor is None else floor,
            limit,
            inv_temp if figures is None else figures,
            lower,
            measured,
            found,
            rows,
            splits,
            per_split,
            digit,
            HAS_FLOOR=floor is not None,
            BY_MASS=figures is not None,
            FIRST=digit == 0,
            LAST=digit == DIGITS,
            SPLITS=triton.next_power_of_2(splits),
            BLOCK=min(block, 1024),
        )
    return found
