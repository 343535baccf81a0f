"""From raw logits to the distribution that is decoded from, and draws from it: one definition for everybody.

Plain decoding, drafters and acceptance rules all come here. That is what makes drafted and plain decoding comparable:
the same temperature, the same cuts, the same race. The order is temperature, top-k, top-p (on the softmax within the
top-k), softmax; the repetition penalty comes before (`draftproof.drafting.penalties`).

Unlike transformers 5, top-p keeps every token whose logit equals that of the last one it keeps, so that no sort order
leaks into the law. Top-k keeps ties there too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.drafting.sampling import Sampling
from draftproof.errors import NumericalError, UsageError

_HEAD = 1024
"""Tokens that usually hold the mass of top-p, so that the tail need not be summed."""


@dataclass(frozen=True)
class RowLaw:
    """A row's distribution in three numbers: `p(v) = exp(z_v - lse)` where `z_v >= threshold`, else 0.

    z is the raw logit times `inv_temp`, in float32.
    """

    inv_temp: float
    threshold: float
    """Smallest scaled logit that is kept; -inf when all are."""
    lse: float
    """Log-sum-exp of the scaled logits that are kept."""


def row_law(logits: Tensor, sampling: Sampling, where: str = "A row of logits") -> RowLaw:
    """The law of one row [V] under `sampling`, whose temperature is not 0.

    Raises NumericalError, opening with `where`, for NaN, +inf, or no finite value.
    """
    if sampling.greedy:
        raise UsageError("Temperature 0 has no law to draw from.", remedy="Take `arg_max` of the row.")
    scaled = _scaled(logits.reshape(1, -1), sampling, torch.float32, where)
    kept, threshold = _cut(scaled, sampling)
    lse = torch.logsumexp(kept, dim=-1)
    return RowLaw(_inverse(sampling), -float("inf") if threshold is None else float(threshold), float(lse))


def probabilities(
    logits: Tensor, sampling: Sampling, dtype: torch.dtype = torch.float32, where: str = "A row of logits"
) -> Tensor:
    """Distributions [..., V] of rows of logits [..., V]; float64 is for exact tests. Greedy rows are one-hot."""
    rows = logits.reshape(-1, logits.shape[-1])
    if sampling.greedy:
        best = _checked(rows.to(dtype), where).argmax(dim=-1, keepdim=True)
        return torch.zeros(rows.shape, dtype=dtype, device=rows.device).scatter_(-1, best, 1.0).reshape(logits.shape)
    kept, _ = _cut(_scaled(rows, sampling, dtype, where), sampling)
    return torch.softmax(kept, dim=-1).reshape(logits.shape)


def arg_max(logits: Tensor, where: str = "A row of logits") -> int:
    """The greedy token of one row [V], ties to the lowest id."""
    value, best = logits.max(dim=-1)
    if not bool(value.isfinite()):
        raise _not_numbers(value.reshape(1), where)
    return int((logits == value).to(torch.int8).argmax()) if logits.is_cuda else int(best)


def probability(logits: Tensor, law: RowLaw, token: int) -> float:
    """p(token) of the row [V]."""
    z = logits[token].to(torch.float32) * law.inv_temp
    return float(torch.exp(z - law.lse)) if float(z) >= law.threshold else 0.0


def distribution(logits: Tensor, law: RowLaw) -> Tensor:
    """All of the row's law, [V] float32."""
    z = logits.to(torch.float32) * law.inv_temp
    p = torch.exp(z - law.lse)
    return p if law.threshold == -float("inf") else p.masked_fill_(z < law.threshold, 0.0)


def draw(logits: Tensor, law: RowLaw, rng: KeyedRng, purpose: Purpose, position: int, lane: int = 0) -> int:
    """A token drawn from the law of the row [V]: the numbers at one address always give the same token."""
    return draw_from_probs(distribution(logits, law), rng, purpose, position, lane)


def draw_from_probs(
    probs: Tensor, rng: KeyedRng, purpose: Purpose, position: int, lane: int = 0, ids: Tensor | None = None
) -> int:
    """A draw from weights [W], which need not sum to 1: the first to finish an exponential race, ties to the lowest id.

    `ids` [W], ascending, are the token ids of the columns, and None means 0 … W-1. Noise belongs to the token, not
    to the column: a trimmed vocabulary draws as the full one does.
    """
    return draw_distinct(probs, 1, rng, purpose, position, lane, ids)[0]


def draw_distinct(
    probs: Tensor,
    count: int,
    rng: KeyedRng,
    purpose: Purpose,
    position: int,
    lane: int = 0,
    ids: Tensor | None = None,
) -> list[int]:
    """The first `count` to finish the race, in order: draws without replacement, each from what is left, renormalised.

    Fewer when fewer tokens have any mass. Raises NumericalError when none has.
    """
    finish, tokens = _race(probs, rng, purpose, position, lane, ids)
    order: list[int]
    if not finish.numel():
        order = []
    elif count == 1:
        best = finish.min(dim=-1)
        order = [int(best.indices)] if float(best.values) < float("inf") else []
    else:
        order = torch.sort(finish, stable=True).indices[: min(count, int(finish.isfinite().sum()))].tolist()
    if not order:
        raise NumericalError("There is nothing to draw from: no token has a positive, finite probability.")
    return order if tokens is None else tokens[order].tolist()


def _race(
    probs: Tensor, rng: KeyedRng, purpose: Purpose, position: int, lane: int, ids: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """When each runner finishes (those of no mass never do), and their tokens; None: 0 … W-1."""
    width = probs.shape[-1]
    if ids is None and probs.device.type == "cpu" and int(torch.count_nonzero(probs)) > width // 8:
        return rng.exponential_row(purpose, position, width, lane) / probs, None
    columns = probs.nonzero().squeeze(-1)
    tokens = columns if ids is None else ids[columns]
    return rng.exponentials(purpose, position, tokens, lane) / probs[columns], tokens


def _inverse(sampling: Sampling) -> float:
    return 1.0 / sampling.temperature


def _scaled(rows: Tensor, sampling: Sampling, dtype: torch.dtype, where: str) -> Tensor:
    """[R, V]: checked, in `dtype`, divided by the temperature."""
    return _checked(rows.to(dtype) * _inverse(sampling), where)


def _checked(rows: Tensor, where: str) -> Tensor:
    top = rows.amax(dim=-1)  # NaN anywhere gives NaN, +inf gives +inf, nothing finite gives -inf
    if not bool(top.isfinite().all()):
        raise _not_numbers(top, where)
    return rows


def _not_numbers(top: Tensor, where: str) -> NumericalError:
    bad = float(top[~top.isfinite()][0])
    what = "holds NaN" if bad != bad else "holds +inf" if bad > 0 else "has no finite value"
    return NumericalError(
        f"{where} {what}.",
        remedy="The model's weights or its precision are at fault, or the temperature is too close to 0.",
    )


def _cut(scaled: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """Scaled logits with those cut by top-k and top-p at -inf, and the smallest kept, [R, 1]."""
    width = scaled.shape[-1]
    threshold: Tensor | None = None
    if 0 < sampling.top_k < width:
        threshold = _kth_largest(scaled, sampling.top_k)
        scaled = scaled.masked_fill(scaled < threshold, -float("inf"))
    if sampling.top_p < 1.0:
        threshold = _nucleus(scaled, sampling.top_p)
        scaled = scaled.masked_fill(scaled < threshold, -float("inf"))
    return scaled, threshold


def _kth_largest(rows: Tensor, k: int) -> Tensor:
    """[R, 1]."""
    if rows.is_cuda:
        return rows.topk(k, dim=-1).values[:, -1:]
    place = rows.shape[-1] - k
    return torch.from_numpy(np.partition(rows.numpy(), place, axis=-1)[:, place : place + 1])


def _nucleus(scaled: Tensor, mass: float) -> Tensor:
    """[R, 1]: the last value of the shortest descending prefix that holds `mass` of the softmax."""
    if scaled.is_cuda:
        values = scaled.sort(dim=-1, descending=True).values
    else:  # numpy sorts floats with vector instructions, torch does not: 0.1 ms against 2.6 for 49152 of them
        values = torch.from_numpy(np.sort(scaled.numpy(), axis=-1)).flip(-1)
    lse = torch.logsumexp(scaled, dim=-1, keepdim=True)
    for width in (min(_HEAD, scaled.shape[-1]), scaled.shape[-1]):
        held = torch.exp((values[:, :width] - lse).to(torch.float64)).cumsum(dim=-1)
        short = held < mass  # a prefix of each row
        if not bool(short[:, -1].any()):
            break
    last = short.sum(dim=-1, keepdim=True)
    finite = values.isfinite().sum(dim=-1, keepdim=True)  # rounding may leave even the whole row short of p
    return values.gather(-1, torch.minimum(last, finite - 1))
