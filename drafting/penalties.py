"""The repetition penalty, for every place of a draft: what has been said there includes the path that leads to it.

Logits of tokens that occur in the prompt, the output or the path down to a node are divided by the penalty when
positive, else multiplied (Keskar et al., arXiv 1909.05858, section 4.1). A token counts once however often it occurs.
Drafted and plain decoding then see the same logits after the same text, which is what verification compares.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draftproof.drafting.draft import Draft
from draftproof.drafting.sampling import Sampling


def penalised(
    logits: Tensor,
    bounds: Sequence[int],
    draft: Draft,
    tokens: Sequence[Sequence[int]],
    sampling: Sequence[Sampling],
) -> Tensor:
    """`logits` [R, V] where no row has a penalty, else a float32 copy with it applied.

    Row `bounds[b]` is that of b's pending token, row `bounds[b] + 1 + n` that of its node n. `tokens[b]` is all that
    the row has committed: prompt and output, the pending token included.
    """
    if all(each.repetition_penalty == 1.0 for each in sampling):
        return logits
    result = logits.to(torch.float32, copy=True)
    for index, each in enumerate(sampling):
        if each.repetition_penalty == 1.0:
            continue
        said = sorted(set(tokens[index]))
        own = result[bounds[index] : bounds[index + 1]]  # [1 + N, V]
        columns = torch.tensor(said, dtype=torch.int64, device=own.device)
        own[:, columns] = _weakened(own[:, columns], each.repetition_penalty)
        places, drafted = _on_paths(*draft.tree(index), set(said))
        if places:
            where = (torch.tensor(places, device=own.device), torch.tensor(drafted, device=own.device))
            own[where] = _weakened(own[where], each.repetition_penalty)
    return result


def _weakened(scores: Tensor, penalty: float) -> Tensor:
    return torch.where(scores < 0, scores * penalty, scores / penalty)


def _on_paths(tokens: list[int], parents: list[int], said: set[int]) -> tuple[list[int], list[int]]:
    """Pairs of a node's row and a token that is new on the path down to it, the node's own included."""
    paths: list[set[int]] = []
    for token, parent in zip(tokens, parents, strict=True):
        above = paths[parent] if parent >= 0 else set()
        paths.append(above if token in said else above | {token})
    pairs = [(node + 1, token) for node, path in enumerate(paths) for token in sorted(path)]
    return [place for place, _ in pairs], [token for _, token in pairs]
