"""Rows as a pipeline collects them, with as much to learn in them as a test wants."""

from __future__ import annotations

import math
import random
from typing import Any

from draftproof.verifiers.routers.rows import RouterRow

PAIR = ("draft-model#sha256:aaa", "target-model#sha256:bbb")


def one_row(**changed: Any) -> dict[str, Any]:
    """A row as `draftproof.pipelines.step_features.collected_rows` makes it, with some fields changed."""
    given: dict[str, Any] = {
        "id": "p1",
        "problem": "Ben has 3 eggs.",
        "position": 1,
        "context": ["First.\n\n"],
        "writers": ["draft"],
        "draft": "So Ben has 4 eggs.\n\n",
        "target": "So Ben has 3 eggs.\n\n",
        "draft_score": 0.25,
        "target_score": 0.75,
        "advantage": 0.5,
        "features": {"mean_logprob": -0.5, "tokens": 7.0},
        "pair": list(PAIR),
        "scorer": "pocket-step@1#abc",
        "proposition": "correct",
    }
    return given | changed


def made_rows(count: int = 1500, *, signal: float = 1.5, bias: float = -0.8, seed: int = 0) -> list[RouterRow]:
    """The log-odds of the target being better are `signal · useful + bias`; six rows a problem.

    Scores are noisy: the advantage is no function of anything that a router sees, and some are 0.
    """
    draw = random.Random(seed)
    made = []
    for number in range(count):
        useful, useless = draw.gauss(0.0, 1.0), draw.gauss(0.0, 1.0)
        better = draw.random() < 1.0 / (1.0 + math.exp(-(signal * useful + bias)))
        gap = 0.4 * draw.random() + 0.01
        row = one_row(
            id=f"{number // 6}",
            problem=f"Problem {number // 6}",
            position=0,
            context=[],
            writers=[],
            draft=f"Step {number}.\n\n",
            draft_score=0.5,
            target_score=0.5 + (gap if better else -gap * (number % 3 > 0)),
            features={"useful": useful, "useless": useless, "constant": 1.0},
        )
        del row["advantage"]
        made.append(RouterRow.model_validate(row))
    return made
