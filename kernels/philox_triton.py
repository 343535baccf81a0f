# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, ignore-errors
"""Triton twin of `draftproof.kernels.philox`: the same words bit for bit, the same numbers to a unit in the last place.

The logarithm is our own: on a GPU `tl.log` goes by way of an approximate base-2 logarithm whose error near 1 is
larger than the small exponentials that win races.
"""

import triton
import triton.language as tl


@triton.jit
def philox_words(seed, purpose, position, lane, block):
    """Words of the indices 4 block … 4 block + 3, uint32, of one shape; any argument may be a tensor of it."""
    zero = (block * 0).to(tl.uint32)
    c0 = block.to(tl.uint32)
    c1 = zero + position.to(tl.uint32)
    c2 = (zero + purpose).to(tl.uint32)
    c3 = (zero + lane).to(tl.uint32)
    k0 = zero + (seed & 0xFFFFFFFF).to(tl.uint32)
    k1 = zero + ((seed >> 32) & 0xFFFFFFFF).to(tl.uint32)
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, zero + 0xD2511F53), c0 * (zero + 0xD2511F53)
        high1, low1 = tl.umulhi(c2, zero + 0xCD9E8D57), c2 * (zero + 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += zero + 0x9E3779B9
        k1 += zero + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def natural_log(x):
    """Logarithm of positive normal float32, within a unit in the last place.

    Reduced to [sqrt(1/2), sqrt(2)), then `2 artanh(f / (2 + f))` as a polynomial; coefficients as in FreeBSD's logf.
    """
    bits = x.to(tl.int32, bitcast=True) + (0x3F800000 - 0x3F3504F3)
    exponent = ((bits >> 23) - 127).to(tl.float32)
    f = ((bits & 0x007FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    tail = z * (0.6666666269302368 + w * 0.2849878668785095) + w * (0.4000097215175629 + w * 0.24279078841209412)
    half_square = 0.5 * f * f
    low = s * (half_square + tail) + exponent * 9.05800061445916e-06
    return exponent * 0.693138122558594 + (f - (half_square - low))


@triton.jit
def uniform_of(word):
    """Float32 in the open interval (0, 1)."""
    return ((word >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07


@triton.jit
def exponential_of(word):
    """Standard exponential, `-log(1 - x)` with x = (word + 1/2) 2^-32, exact for small x as well."""
    x = tl.minimum((word.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 0.999999940395355)
    y = 1.0 - x
    return tl.where(y == 1.0, x, natural_log(y) * (x / tl.where(y == 1.0, 1.0, y - 1.0)))


@triton.jit
def uniform_at(seed, purpose, position, lane):
    """The uniform number of index 0 at each position (an integer tensor, or a scalar)."""
    word, _, _, _ = philox_words(seed, purpose, position, lane, position * 0)
    return uniform_of(word)


@triton.jit
def exponential_tile(seed, purpose, position, first, BLOCK: tl.constexpr):
    """[BLOCK] exponentials of the indices first … first + BLOCK - 1; `first` and BLOCK are multiples of 4."""
    block = first // 4 + tl.arange(0, BLOCK // 4)
    w0, w1, w2, w3 = philox_words(seed, purpose, position, 0, block)
    return exponential_of(tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3)))
