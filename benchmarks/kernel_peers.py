"""What the verification kernels are measured against: the same decisions the usual ways.

`torch_*` is what one writes in an afternoon: softmax in float32, gather, compare, sample, all rows at once, without a
kernel of one's own. `multi_pass_token` has the structure of the verification in widely used servers: a full tensor of
float32 probabilities prepared by torch (with a sort where top-p is on), a kernel that accepts position by position, a
kernel that draws a replacement for every position although one at most is used, a bonus token sampled beforehand.

Noise is drawn by torch, outside the kernels and inside the measured time, as those servers do.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 8192


def torch_greedy(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(accepted [B], next token [B]) for logits [B, k+1, V] and tokens [B, k]."""
    best = logits.argmax(-1)
    accepted = (best[:, :-1] == tokens).int().cumprod(-1).sum(-1)
    return accepted, best.gather(1, accepted.long().unsqueeze(1)).squeeze(1)


def torch_match(logits: Tensor, inv_temp: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The target's own draw at every position, and the leading run that equals it."""
    p = (logits.float() * inv_temp.view(-1, 1, 1)).softmax(-1)
    drawn = (p / torch.empty_like(p).exponential_()).argmax(-1)
    accepted = (drawn[:, :-1] == tokens).int().cumprod(-1).sum(-1)
    return accepted, drawn.gather(1, accepted.long().unsqueeze(1)).squeeze(1)


def torch_token(logits: Tensor, inv_temp: Tensor, q: Tensor, tokens: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Speculative sampling; q [B, k, V] float32, uniform [B, k]."""
    p = (logits.float() * inv_temp.view(-1, 1, 1)).softmax(-1)
    at = tokens.unsqueeze(-1)
    passes = uniform * q.gather(-1, at).squeeze(-1) < p[:, :-1].gather(-1, at).squeeze(-1)
    accepted = passes.int().cumprod(-1).sum(-1)
    weights = torch.cat([(p[:, :-1] - q).clamp(min=0), p[:, -1:]], 1)
    row = weights.gather(1, accepted.long().view(-1, 1, 1).expand(-1, 1, p.shape[-1])).squeeze(1)
    return accepted, (row / torch.empty_like(row).exponential_()).argmax(-1)


def torch_top_p(logits: Tensor, inv_temp: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """(threshold [R], log-sum-exp of what is kept [R]) by sorting; logits [R, V]."""
    z = logits.float() * inv_temp.unsqueeze(-1)
    falling = z.sort(-1, descending=True).values
    mass = falling.softmax(-1).cumsum(-1)
    last = (mass < p.unsqueeze(-1)).sum(-1, keepdim=True).clamp(max=z.shape[1] - 1)
    threshold = falling.gather(-1, last)
    return threshold.squeeze(-1), torch.where(z >= threshold, z, -torch.inf).logsumexp(-1)


@triton.jit
def _accept(
    probs,  # [B, k+1, V]
    q,  # [B, k, V]
    tokens,  # [B, k]
    uniform,  # [B, k]
    recovered,  # [B, k]
    bonus,  # [B]
    out,  # [B, k+1]
    accepted,  # [B]
    vocab,
    LENGTH: tl.constexpr,
):
    request = tl.program_id(0).to(tl.int64)
    going = request >= 0
    count = 0
    for step in range(LENGTH):
        if going:
            token = tl.load(tokens + request * LENGTH + step)
            p = tl.load(probs + (request * (LENGTH + 1) + step) * vocab + token)
            at_draft = tl.load(q + (request * LENGTH + step) * vocab + token)
            going = (at_draft > 0) & (tl.load(uniform + request * LENGTH + step) * at_draft < p)
            emitted = tl.where(going, token, tl.load(recovered + request * LENGTH + step))
            tl.store(out + request * (LENGTH + 1) + step, emitted)
            count += going.to(tl.int32)
    if going:
        tl.store(out + request * (LENGTH + 1) + LENGTH, tl.load(bonus + request))
    tl.store(accepted + request, count)


@triton.jit
def _recover(probs, q, noise, recovered, vocab, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """A replacement for one position of one request: the argmax of (p - q)+ over the request's noise [B, V]."""
    request = tl.program_id(0).to(tl.int64)
    step = tl.program_id(1)
    best = -1.0
    best_id = 0
    for first in range(0, vocab, BLOCK):
        ids = first + tl.arange(0, BLOCK)
        inside = ids < vocab
        p = tl.load(probs + (request * (LENGTH + 1) + step) * vocab + ids, mask=inside, other=0.0)
        at_draft = tl.load(q + (request * LENGTH + step) * vocab + ids, mask=inside, other=0.0)
        score = tl.maximum(p - at_draft, 0.0) * tl.load(noise + request * vocab + ids, mask=inside, other=0.0)
        top = tl.max(score, axis=0)
        lowest = tl.min(tl.where(score == top, ids, 2147483647), axis=0)
        best_id = tl.where(top > best, lowest, best_id)
        best = tl.maximum(best, top)
    tl.store(recovered + request * LENGTH + step, best_id.to(tl.int64))


def multi_pass_token(
    logits: Tensor, inv_temp: Tensor, q: Tensor, tokens: Tensor, uniform: Tensor, top_p: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(accepted [B], out [B, k+1]); arguments as `torch_token`, `top_p` [B]."""
    requests, rows, vocab = logits.shape
    z = logits.float().div_((1.0 / inv_temp).view(-1, 1, 1))
    if top_p is not None:
        rising, order = z.sort(-1)
        mass = rising.softmax(-1).cumsum(-1)
        drop = mass <= 1 - top_p.view(-1, 1, 1)
        drop[..., -1] = False
        z = rising.masked_fill_(drop, -torch.inf).scatter_(-1, order, rising.clone())
    probs = z.softmax(-1)
    last = probs[:, -1]
    bonus = (last / torch.empty_like(last).exponential_()).argmax(-1)
    noise = torch.empty((requests, vocab), device=logits.device).exponential_().reciprocal_()
    recovered = torch.empty_like(tokens)
    out = torch.full((requests, rows), -1, dtype=torch.int64, device=logits.device)
    accepted = torch.empty(requests, dtype=torch.int32, device=logits.device)
    _recover[(requests, rows - 1)](probs, q, noise, recovered, vocab, LENGTH=rows - 1, BLOCK=TILE)
    _accept[(requests,)](
        probs, q, tokens, uniform, recovered, bonus, out, accepted, vocab, LENGTH=rows - 1, num_warps=1
    )
    return accepted, out
