"""Mistakes that were made in published engines and papers. Each is a part that must fail the checks that ours pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.distributions import draw_from_probs
from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.drafting.rule import Decision
from draftproof.drafting.rules import block, token
from draftproof.drafting.rules.recursive import without
from tests.drafting.rules.enumeration import Branches, BranchingRow, Drafting, Laws, Tree

# Drafters that do not report the law they drew from


def arg_max_with_soft_q(length: int) -> Drafting:
    """(a) The most probable token is proposed, and q reported as if it had been drawn."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        for node in range(length):
            q = draft(tree.text(node - 1))
            tree.add(int(q.argmax()), node - 1, q)
        return tree

    return drafting


def improbable_tokens_dropped(length: int, least: float) -> Drafting:
    """(e) Drafting ends BEFORE a drawn token of low probability, which is thrown away."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        for node in range(length):
            q = draft(tree.text(node - 1))
            drawn = branches.choose(q.tolist())
            if float(q[drawn]) < least:
                break
            tree.add(drawn, node - 1, q)
        return tree

    return drafting


def improbable_tokens_kept(length: int, least: float) -> Drafting:
    """What is allowed instead of (e): drafting ends AFTER such a token."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        for node in range(length):
            q = draft(tree.text(node - 1))
            tree.add(branches.choose(q.tolist()), node - 1, q)
            if float(q[tree.tokens[-1]]) < least:
                break
        return tree

    return drafting


def raw_q_reported(length: int, processed: Callable[[Tensor], Tensor]) -> Drafting:
    """(g) Tokens are drawn after temperature and top-k, and q is reported from before them."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        for node in range(length):
            q = draft(tree.text(node - 1))
            tree.add(branches.choose(processed(q).tolist()), node - 1, q)
        return tree

    return drafting


def scrambled_columns(length: int) -> Drafting:
    """(i) Columns of q belong to other tokens than it says: those of a trimmed vocabulary, in another order."""

    def drafting(draft: Laws, branches: Branches) -> Tree:
        tree = Tree()
        for node in range(length):
            q = draft(tree.text(node - 1))
            tree.add(branches.choose(q.tolist()), node - 1, q.roll(1))
        return tree

    return drafting


# Rules


def siblings_against_the_first_laws(row: BranchingRow) -> Decision:
    """(c) Every sibling is tried against the p and q of the first, as if nothing had been rejected."""
    path: list[int] = []
    node = -1
    while children := row.children(node):
        p, q = row.p(node), row.q_of_children(node)
        accepted = None
        for lane, child in enumerate(children):
            x = row.tokens[child]
            if row.chance(child, lane) < token.accept_probability(float(p[x]), float(q[x])):
                accepted = child
                break
        if accepted is None:
            return Decision(tuple(path), row.draw_left(token.residual(p, q), node))
        path.append(accepted)
        node = accepted
    return Decision(tuple(path), row.draw_below(node))


def siblings_still_in_q(row: BranchingRow) -> Decision:
    """(c') p' is updated, and rejected siblings stay in q as if drawn with replacement."""
    path: list[int] = []
    node = -1
    while children := row.children(node):
        p, q = row.p(node), row.q_of_children(node)
        accepted = None
        for lane, child in enumerate(children):
            x = row.tokens[child]
            if row.chance(child, lane) < token.accept_probability(float(p[x]), float(q[x])):
                accepted = child
                break
            p = token.residual(p, q)
        if accepted is None:
            return Decision(tuple(path), row.draw_left(p, node))
        path.append(accepted)
        node = accepted
    return Decision(tuple(path), row.draw_below(node))


def block_of_the_leading_run(row: BranchingRow) -> Decision:
    """(d) Block verification that stops at the first failure instead of looking for the last success."""
    nodes = range(len(row.tokens))
    weights = block.prefix_weights([row.p_of(node) for node in nodes], [row.q_of(node) for node in nodes])
    for i in range(1, len(row.tokens) + 1):
        last = i == len(row.tokens)
        h = weights[i] if last else block.accept_probability(weights[i], row.p(i - 1), row.q(i))
        if not row.chance(i - 1, i - 1) < h:
            left = block.residual(weights[i - 1], row.p(i - 2), row.q(i - 1))
            return Decision(tuple(nodes[: i - 1]), row.draw_left(left, i - 2))
    return Decision(tuple(nodes), row.draw_below(len(row.tokens) - 1))


def block_with_the_token_residual(row: BranchingRow) -> Decision:
    """(d') Block acceptance, and the correction drawn from (p - q)+ instead of (P p - q)+."""
    nodes = range(len(row.tokens))
    k = len(row.tokens)
    weights = block.prefix_weights([row.p_of(node) for node in nodes], [row.q_of(node) for node in nodes])
    if row.chance(k - 1, k - 1) < weights[k]:
        return Decision(tuple(nodes), row.draw_below(k - 1))
    a = k - 1
    while a and not row.chance(a - 1, a - 1) < block.accept_probability(weights[a], row.p(a - 1), row.q(a)):
        a -= 1
    return Decision(tuple(nodes[:a]), row.draw_left(token.residual(row.p(a - 1), row.q(a)), a - 1))


def correction_from_p(row: BranchingRow) -> Decision:
    """(f) A rejected token is replaced by a draw from p instead of (p - q)+."""
    for node in range(len(row.tokens)):
        if not row.chance(node, node) < token.accept_probability(row.p_of(node), row.q_of(node)):
            return Decision(tuple(range(node)), row.draw_left(row.p(node - 1), node - 1))
    return Decision(tuple(range(len(row.tokens))), row.draw_below(len(row.tokens) - 1))


def last_sibling_against_all_of_q(row: BranchingRow) -> Decision:
    """(k) Greedy drafts whose drawn child is compared with q, and not with what its siblings left of q."""
    path: list[int] = []
    node = -1
    while children := row.children(node):
        *elder, last = children
        p, q = row.p(node), row.q_of_children(node)
        x = row.tokens[last]
        if row.chance(last, len(elder)) < token.accept_probability(float(p[x]), float(q[x])):
            node = last
        else:
            rest = without(q, [row.tokens[child] for child in elder])
            y = row.draw_left(token.residual(p, rest), node)
            hit = next((child for child in elder if row.tokens[child] == y), None)
            if hit is None:
                return Decision(tuple(path), y)
            node = hit
        path.append(node)
    return Decision(tuple(path), row.draw_below(node))


def accepts_in_the_closed_interval(u: float, p_x: float, q_x: float) -> bool:
    """(h) `u <= p / q`: at u = 0 a token goes through that the target never says."""
    return u <= p_x / q_x


# Random numbers met twice


@dataclass(frozen=True)
class SharedNoise:
    """(b) Streams whose residual draws meet the numbers that the draft was drawn from."""

    seed: int

    def _of(self, purpose: Purpose) -> Purpose:
        return Purpose.DRAFT if purpose is Purpose.RESIDUAL else purpose

    def uniform(self, purpose: Purpose, position: int, lane: int = 0) -> float:
        return KeyedRng(self.seed).uniform(purpose, position, lane)

    def exponentials(self, purpose: Purpose, position: int, ids: Tensor, lane: int = 0) -> Tensor:
        return KeyedRng(self.seed).exponentials(self._of(purpose), position, ids, lane)

    def exponential_row(self, purpose: Purpose, position: int, count: int, lane: int = 0) -> Tensor:
        return KeyedRng(self.seed).exponential_row(self._of(purpose), position, count, lane)


def draft_noise_met_again(laws: list[Tensor], rng: KeyedRng, position: int) -> list[int]:
    """(j) A chain drawn from the numbers of its positions, the same in every round that comes past them."""
    return [
        draw_from_probs(law.to(torch.float32), rng, Purpose.DRAFT, position + step) for step, law in enumerate(laws)
    ]
