"""How many tokens a round drafters would bring on text that a model has already written, without the model.

    python benchmarks/replay_drafters.py GENERATIONS [--drafter NAME:key=value]... [--budgets 4,8,16]

GENERATIONS has a JSON line for each text: `category`, and `prompt` and `output` as token ids, the output decoded
greedily. What a greedy target would accept of a draft is then known, so that drafters which need tokens only can be
compared in seconds. One JSON line for each drafter, budget and category, and one for all categories together (their
mean, as Spec-Bench has it):

- `tokens_per_round`: with a plain step it is 1; what it is worth depends on what a pass over `nodes` costs.
- `promised`: accepted tokens that the drafter's scores promised for one that was accepted.
- `draft_ms`: processor time of drafting and committing, for a round; `longest_ms` the longest of any.

Texts are replayed one after the other with one drafter, so that one which learns from finished rows does.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest
from draftproof.drafting.drafters.catalogue import create_drafter
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import ModelInfo
from draftproof.drafting.sampling import GREEDY
from draftproof.registry import parse_named

DRAFTERS = ("prompt-lookup", "ngram", "trigram", "suffix:learn=false", "suffix", "input-copy", "hybrid")


@dataclass(frozen=True)
class Text:
    category: str
    prompt: list[int]
    output: list[int]


@dataclass
class Figures:
    rounds: int = 0
    tokens: int = 0
    nodes: int = 0
    promised: float = 0.0
    seconds: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True)
class Facts:
    """All that drafters without needs ask of a target."""

    info: ModelInfo


def replay(drafter: Drafter, texts: Sequence[Text], budget: int) -> dict[str, Figures]:
    """Figures by category."""
    figures: dict[str, Figures] = defaultdict(Figures)
    for row, text in enumerate(texts):
        whole, length = text.prompt + text.output, len(text.prompt) + 1
        drafter.start(Commit(row, tuple(whole[:length]), (), length, reason="prefill"))
        request = DraftRequest((row,), (budget,), (GREEDY,), (KeyedRng(0),))
        mine = figures[text.category]
        while length < len(whole):
            begin = time.thread_time()
            draft = drafter.propose(request)
            path = accepted(draft, whole[length:])
            new = whole[length : length + len(path) + 1]
            length += len(new)
            drafter.commit([Commit(row, tuple(new), tuple(path), length)])
            took = time.thread_time() - begin
            mine.rounds += 1
            mine.tokens += len(new)
            mine.nodes += int(draft.n_nodes[0])
            mine.promised += float(draft.score[0].sum()) if draft.score is not None else 0.0
            mine.seconds += took
            mine.longest = max(mine.longest, took)
        drafter.stop([row])
    return figures


def accepted(draft: Draft, coming: Sequence[int]) -> list[int]:
    """The nodes that spell what comes, all but its last token, which no draft can save."""
    below = {(parent, token): node for node, (token, parent) in enumerate(zip(*draft.tree(0), strict=True))}
    path: list[int] = []
    for token in coming[:-1]:
        node = below.get((path[-1] if path else -1, token))
        if node is None:
            break
        path.append(node)
    return path


def lines(figures: dict[str, Figures]) -> Iterator[dict[str, Any]]:
    def line(category: str, each: Sequence[Figures]) -> dict[str, Any]:
        rounds = sum(item.rounds for item in each)
        kept = sum(item.tokens - item.rounds for item in each)
        return {
            "category": category,
            "tokens_per_round": round(sum(item.tokens / item.rounds for item in each) / len(each), 4),
            "nodes": round(sum(item.nodes for item in each) / rounds, 3),
            "promised": round(sum(item.promised for item in each) / kept, 3) if kept else None,
            "draft_ms": round(1e3 * sum(item.seconds for item in each) / rounds, 4),
            "longest_ms": round(1e3 * max(item.longest for item in each), 3),
            "rounds": rounds,
        }

    for category, mine in figures.items():
        yield line(category, [mine])
    yield line("all", list(figures.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens a round of drafters on texts that are already written.")
    parser.add_argument("generations", type=Path)
    parser.add_argument("--drafter", action="append", help="NAME[:key=value,...]; may be given several times")
    parser.add_argument("--budgets", default="4,8,16", help="most nodes of a draft")
    parser.add_argument("--vocab-size", type=int, default=49152)
    parser.add_argument("--eos", type=int, default=2)
    arguments = parser.parse_args()
    with arguments.generations.open() as file:
        texts = [Text(row["category"], row["prompt"], row["output"]) for row in map(json.loads, file)]
    texts = [text for text in texts if len(text.output) > 1]
    info = ModelInfo(
        name=str(arguments.generations),
        architecture="text",
        vocab_size=arguments.vocab_size,
        hidden_size=0,
        n_layers=0,
        context_length=sys.maxsize,
        eos_ids=frozenset({arguments.eos}),
        device=torch.device("cpu"),
        dtype=torch.float32,
        backend="none",
        digest="",
    )
    about = {"machine": f"{platform.machine()} {platform.python_version()}", "texts": len(texts)}
    for spec in arguments.drafter or DRAFTERS:
        for budget in map(int, arguments.budgets.split(",")):
            name, settings = parse_named(spec)
            drafter = create_drafter(name, **settings)
            if drafter is None or drafter.spec.needs:
                parser.error(f"{spec} cannot be replayed: it drafts nothing, or needs more than tokens.")
            drafter.bind(Binding(Facts(info), None))  # type: ignore[arg-type]
            for line in lines(replay(drafter, texts, budget)):
                print(json.dumps({"drafter": spec, "budget": budget, **line, **about}), flush=True)


if __name__ == "__main__":
    main()
