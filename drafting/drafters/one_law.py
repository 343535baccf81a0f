"""One draft out of several: each row takes the draft of one drafter, and all rows come under one law."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draftproof.drafting.draft import Draft, Law, QTable, pack
from draftproof.drafting.drafters.merge import scores_of

Tree = tuple[list[int], list[int]]


def choose_rows(
    drafts: Sequence[Draft], chosen: Sequence[int], law: Law, drawn: Sequence[bool], vocab_size: int
) -> Draft:
    """Row b as `drafts[chosen[b]]` has it, under `law`, the law of those drafts that are not `match`.

    `drawn[b]` says whether row b is sampled. Greedy rows are verified by the arg-max under any law: they keep trees.
    Under a law other than `match`, a sampled row of a `match` draft becomes its likeliest chain, each token drawn from
    a q that is certain of it: drafting it was just that, and accepting it with probability min(1, p/q) = p is exact.
    """
    trees: list[Tree] = []
    scores: list[list[float]] = []
    certain: list[bool] = []
    for row, index in enumerate(chosen):
        tree, score = drafts[index].tree(row), scores_of(drafts[index], row)
        certain.append(law != "match" and drafts[index].law == "match")
        if certain[-1] and drawn[row]:
            tree, score = likeliest_chain(*tree, score)
        trees.append(tree)
        scores.append(score)
    packed = pack(trees, scores)
    if law == "match":
        return packed
    tables = [drafts[index].q for index in chosen]
    most = max([packed.tokens.shape[1], 1, *(0 if table is None else table.probs.shape[1] for table in tables)])
    probs = torch.zeros((len(chosen), most, vocab_size), dtype=torch.float32)
    of = torch.zeros_like(packed.tokens)
    for row, table in enumerate(tables):
        if certain[row] or table is None:
            count = int(packed.n_nodes[row])
            of[row, :count] = torch.arange(count)
            probs[row, torch.arange(most), _padded(packed.tokens[row, :count], most)] = 1.0
        else:
            ids = slice(None) if table.ids is None else table.ids.cpu()
            probs[row, :, ids] = 0.0
            probs[row, : table.probs.shape[1], ids] = table.probs[row].cpu()
            width = min(of.shape[1], table.of.shape[1])
            of[row, :width] = table.of[row, :width].cpu()
    return Draft(packed.tokens, packed.parent, packed.n_nodes, law, QTable(probs, of), packed.score)


def _padded(tokens: Tensor, width: int) -> Tensor:
    """Tokens, then zeros up to `width`: rows of q that no node refers to are certain of token 0."""
    return torch.cat([tokens, tokens.new_zeros(width - len(tokens))])


def likeliest_chain(tokens: Sequence[int], parents: Sequence[int], scores: Sequence[float]) -> tuple[Tree, list[float]]:
    """The path from the root that takes the best child at each node."""
    path: list[int] = []
    while True:
        at = path[-1] if path else -1
        children = [node for node, parent in enumerate(parents) if parent == at]
        if not children:
            break
        path.append(max(children, key=lambda node: scores[node]))
    chain = [tokens[node] for node in path]
    return (chain, list(range(-1, len(chain) - 1))), [scores[node] for node in path]
