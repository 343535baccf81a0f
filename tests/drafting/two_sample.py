"""Whether two collections of texts have one law: maximum mean discrepancy with a permutation test.

Gao et al., "Model Equality Testing: Which Model Is This API Serving?" (arXiv 2410.20247): the Hamming kernel, 0 across
prompts, and labels exchanged among the texts of a prompt. It needs no probabilities, so it judges whole texts, of any
length, through any drafter and rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Texts = Sequence[Sequence[Sequence[int]]]
"""Prompt -> texts -> tokens, all of one length; the prompts of two collections are the same."""

PERMUTATIONS = 999
LEAST_P_VALUE = 0.005
"""Texts of one law come out below this once in 200 times; seeds are fixed, so what passes always passes."""


def p_value(one: Texts, other: Texts) -> float:
    """Share of the exchanges of labels, the true labels among them, that set the two at least as far apart."""
    tokens = np.array([text for texts in (one, other) for of_prompt in texts for text in of_prompt])
    prompts = np.array([at for texts in (one, other) for at, of_prompt in enumerate(texts) for _ in of_prompt])
    labels = np.zeros(len(tokens))
    labels[: sum(map(len, one))] = 1.0
    apart = _discrepancy(_kernel(tokens, prompts), _exchanged(labels, prompts), prompts)
    return float((apart >= apart[0]).mean())


def _kernel(tokens: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """[n, n]: share of positions with equal tokens; 0 across prompts."""
    equal = np.zeros((len(tokens), len(tokens)))
    for column in tokens.T:
        equal += column[:, None] == column[None, :]
    return equal / tokens.shape[1] * (prompts[:, None] == prompts[None, :])


def _exchanged(labels: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """[1 + PERMUTATIONS, n]: the labels, and labels exchanged within prompts."""
    chance = np.random.default_rng(0)
    rows = np.tile(labels, (1 + PERMUTATIONS, 1))
    for prompt in np.unique(prompts):
        at = np.flatnonzero(prompts == prompt)
        rows[1:, at] = chance.permuted(rows[1:, at], axis=1)
    return rows


def _discrepancy(kernel: np.ndarray, labels: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """[rows of labels]: mean kernel within either collection less twice that between them, pairs of a prompt only."""
    pairs = (prompts[:, None] == prompts[None, :]).astype(float)
    np.fill_diagonal(pairs, 0.0)
    kernel = kernel * pairs

    def mean(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return ((left @ kernel) * right).sum(axis=1) / ((left @ pairs) * right).sum(axis=1)

    return mean(labels, labels) - 2.0 * mean(labels, 1.0 - labels) + mean(1.0 - labels, 1.0 - labels)
