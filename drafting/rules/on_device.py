"""The rules where the logits lie on a GPU: the verification kernels, all rows at once, one answer copied back.

The rules themselves go row by row and stop at the first rejection, which suits a CPU; on a GPU every look at a number
would wait for the device. The kernels draw the same numbers from the same addresses, so both give the same tokens,
but where rounding decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from draftproof.drafting.rule import Decision, Verification
from draftproof.drafting.rules.drafted_row import DraftedRow, QReader
from draftproof.errors import NumericalError
from draftproof.kernels.decide_block import decide_block
from draftproof.kernels.decide_match import decide_match
from draftproof.kernels.decide_siblings import decide_siblings
from draftproof.kernels.decide_token import decide_token
from draftproof.kernels.drafted import Decided, Drafted, DraftRows, columns_of
from draftproof.kernels.row_stats import RowStats, row_stats
from draftproof.kernels.walk import walk

_WITH_Q: dict[str, Callable[[Tensor, RowStats, Drafted, DraftRows], Decided]] = {
    "token": decide_token,
    "block": decide_block,
    "recursive": decide_siblings,
}
KERNELS = frozenset({"greedy", "match", *_WITH_Q})
"""Rules that have a kernel; the others go row by row on a GPU too."""


def decide_on_device(
    verification: Verification, rows: Sequence[DraftedRow], rule: str, q: QReader | None
) -> list[Decision]:
    """Decisions of `rule` (one of `KERNELS`) for checked `rows`; without a `q` the target's own draws are followed."""
    logits, device = verification.logits, verification.logits.device
    drafted = _drafted(rows, verification, device)
    per_row = [verification.sampling[row.index] for row in rows for _ in range(len(row.tokens) + 1)]
    inv_temp = torch.tensor([0.0 if each.greedy else 1.0 / each.temperature for each in per_row], device=device)
    cuts = any(each.top_k or each.top_p < 1.0 for each in per_row if not each.greedy)
    top_k = torch.tensor([each.top_k for each in per_row], device=device) if cuts else None
    top_p = torch.tensor([each.top_p for each in per_row], device=device) if cuts else None
    if all(each.greedy for each in per_row):
        decided = walk(row_stats(logits, inv_temp).argmax, drafted)
    elif q is None or rule not in _WITH_Q:
        threshold = row_stats(logits, inv_temp, top_k=top_k, top_p=top_p).threshold if cuts else None
        decided = decide_match(logits, inv_temp, threshold, drafted)
    else:
        stats = row_stats(logits, inv_temp, top_k=top_k, top_p=top_p)
        decided = _WITH_Q[rule](logits, stats, drafted, _draft_rows(q, rows, drafted, logits.shape[-1]))
    return _decisions(rows, decided)


def _drafted(rows: Sequence[DraftedRow], verification: Verification, device: torch.device) -> Drafted:
    width = max((len(row.tokens) for row in rows), default=0)
    tokens, parents = (
        torch.tensor([list(each) + [-1] * (width - len(each)) for each in lists], dtype=torch.int64, device=device)
        for lists in ([row.tokens for row in rows], [row.parents for row in rows])
    )
    is_chain = all(parent == node - 1 for row in rows for node, parent in enumerate(row.parents))
    return Drafted(
        tokens=tokens.reshape(len(rows), width),
        cu_rows=torch.tensor(verification.bounds, dtype=torch.int64, device=device),
        seeds=torch.tensor([row.rng.seed for row in rows], dtype=torch.int64, device=device),
        positions=torch.tensor(verification.positions, dtype=torch.int64, device=device),
        parent=None if is_chain else parents.reshape(len(rows), width),
    )


def _draft_rows(q: QReader, rows: Sequence[DraftedRow], drafted: Drafted, vocab_size: int) -> DraftRows:
    probs, of, ids = q.checked([(row.index, len(row.tokens)) for row in rows])
    return DraftRows(
        values=probs.reshape(-1, probs.shape[-1]),
        of=(of + torch.arange(len(rows), device=of.device).unsqueeze(1) * probs.shape[1])[:, : drafted.tokens.shape[1]],
        columns=None if ids is None else columns_of(ids, vocab_size),
    )


def _decisions(rows: Sequence[DraftedRow], decided: Decided) -> list[Decision]:
    answer = torch.cat([decided.out, decided.path, decided.num.unsqueeze(1), decided.bad.unsqueeze(1)], dim=1)
    width = decided.path.shape[1]
    decisions = []
    for row, line in zip(rows, answer.tolist(), strict=True):
        emitted, path, count, bad = line[: width + 1], line[width + 1 : 2 * width + 1], line[-2], line[-1]
        if bad >= 0:
            raise NumericalError(
                f"{row.where(bad - 1)} NaN, +inf, or no finite value.",
                remedy="The model's weights or its precision are at fault, or the temperature is too close to 0.",
            )
        decisions.append(Decision(tuple(path[: count - 1]), emitted[count - 1]))
    return decisions
