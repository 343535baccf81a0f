"""How many tokens a round drafters would bring on text that a model has already written, without the model; and how
much time length policies would save with them, by the clock of a table of pass costs.

    python benchmarks/replay_drafters.py GENERATIONS [--drafter NAME:key=value]... [--policy NAME:key=value]...
        [--costs 1:20,2:21,4:22,8:25,16:31,32:44] [--draft-ms 0.3]

GENERATIONS has a JSON line for each text: `category`, and `prompt` and `output` as token ids, the output decoded
greedily. What a greedy target would accept of a draft is then known, so that drafters which need tokens only can be
compared in seconds. One JSON line for each drafter, policy and category, and one for all categories together (their
mean, as Spec-Bench has it):

- `tokens_per_round`: with a plain step it is 1; what it is worth depends on what a pass over `nodes` costs.
- `tokens_per_second`: where a pass over k tokens takes v(k) ms as `--costs` says, and asking the drafter `--draft-ms`.
- `of_best_fixed`: that, as a share of the best `fixed` policy's of this run in the category.
- `promised`: accepted tokens that the drafter's scores promised for one that was accepted.
- `draft_ms`: processor time of drafting and committing, for a round; `longest_ms` the longest of any.

Texts are replayed one after the other with one drafter and one policy, so that what learns from finished rows does.
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
from statistics import fmean
from typing import Any

import torch

from draftproof.drafting.checks import depth_of
from draftproof.drafting.draft import Draft, empty_draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest
from draftproof.drafting.drafters.catalogue import create_drafter
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import ModelInfo
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policies.catalogue import create_policy
from draftproof.drafting.policy import Policy
from draftproof.drafting.rounds import RowRound
from draftproof.drafting.sampling import GREEDY
from draftproof.registry import parse_named

POLICIES = ("cost", *(f"fixed:draft_length={length}" for length in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32)))
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
    clock_ms: float = 0.0

    @property
    def speed(self) -> float:
        return 1e3 * self.tokens / self.clock_ms


@dataclass(frozen=True)
class Facts:
    """All that drafters without needs ask of a target."""

    info: ModelInfo


@dataclass(frozen=True)
class Clock:
    """What things take in the replay."""

    passes: PassCosts
    draft_ms: float


def replay(drafter: Drafter, policy: Policy, texts: Sequence[Text], clock: Clock) -> dict[str, Figures]:
    """Figures by category."""
    figures: dict[str, Figures] = defaultdict(Figures)
    policy.bind(clock.passes, drafter.spec)
    for row, text in enumerate(texts):
        whole, length = text.prompt + text.output, len(text.prompt) + 1
        drafter.start(Commit(row, tuple(whole[:length]), (), length, reason="prefill"))
        mine = figures[text.category]
        while length < len(whole):
            budget = min(policy.budgets([row])[0], len(whole) - length - 1)
            begin = time.thread_time()
            request = DraftRequest((row,), (budget,), (GREEDY,), (KeyedRng(0),), policy.go_on)
            draft = drafter.propose(request) if budget else empty_draft(1)
            took = time.thread_time() - begin
            draft = policy.cut([row], draft) if budget else draft
            path = accepted(draft, whole[length:])
            new = whole[length : length + len(path) + 1]
            record = told(row, length, drafter, draft, len(path), clock.draft_ms if budget else 0.0, clock)
            length += len(new)
            begin = time.thread_time()
            drafter.commit([Commit(row, tuple(new), tuple(path), length)])
            took += time.thread_time() - begin
            policy.observe([record])
            mine.rounds += 1
            mine.tokens += len(new)
            mine.nodes += record.drafted
            mine.promised += record.score or 0.0
            mine.seconds += took
            mine.longest = max(mine.longest, took)
            mine.clock_ms += record.draft_ms + record.verify_ms
        drafter.stop([row])
        policy.forget([row])
    return figures


def told(
    row: int, position: int, drafter: Drafter, draft: Draft, right: int, draft_ms: float, clock: Clock
) -> RowRound:
    """What a session would tell the policy of the round."""
    nodes = int(draft.n_nodes[0])
    return RowRound(
        row=row,
        index=position,
        position=position,
        drafter=drafter.spec.name,
        law=draft.law,
        rule="match",
        lossless=True,
        drafted=nodes,
        depth=depth_of(draft.tree(0)[1]),
        accepted=right,
        emitted=right + 1,
        score=float(draft.score[0, :nodes].sum()) if draft.score is not None and nodes else None,
        draft_ms=draft_ms,
        verify_ms=clock.passes.pass_ms(1 + nodes),
    )


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


def lines(figures: dict[str, Figures], best: dict[str, float]) -> Iterator[dict[str, Any]]:
    """`best`: the fastest fixed policy's tokens per second by category."""

    def line(category: str, each: dict[str, Figures]) -> dict[str, Any]:
        items = list(each.values())
        rounds = sum(item.rounds for item in items)
        kept = sum(item.tokens - item.rounds for item in items)
        shares = [item.speed / best[name] for name, item in each.items() if name in best]
        return {
            "category": category,
            "tokens_per_round": round(fmean(item.tokens / item.rounds for item in items), 4),
            "tokens_per_second": round(fmean(item.speed for item in items), 2),
            "of_best_fixed": round(fmean(shares), 4) if shares else None,
            "nodes": round(sum(item.nodes for item in items) / rounds, 3),
            "promised": round(sum(item.promised for item in items) / kept, 3) if kept else None,
            "draft_ms": round(1e3 * sum(item.seconds for item in items) / rounds, 4),
            "longest_ms": round(1e3 * max(item.longest for item in items), 3),
            "rounds": rounds,
        }

    for category, mine in figures.items():
        yield line(category, {category: mine})
    yield line("all", figures)


def costs_of(text: str) -> PassCosts:
    """`1:20,8:25`: a pass over 1 token takes 20 ms, one over 8 tokens 25 ms."""
    pairs = [pair.split(":") for pair in text.split(",")]
    return PassCosts(tuple(int(size) for size, _ in pairs), tuple(float(ms) for _, ms in pairs))


def main() -> None:
    parser = argparse.ArgumentParser(description="Drafters and policies on texts that are already written.")
    parser.add_argument("generations", type=Path)
    parser.add_argument("--drafter", action="append", help="NAME[:key=value,...]; may be given several times")
    parser.add_argument("--policy", action="append", help="the same, of length policies")
    parser.add_argument("--costs", type=costs_of, default="1:20,2:21,4:22,8:25,16:31,32:44", help="SIZE:MS,...")
    parser.add_argument("--draft-ms", type=float, default=0.3)
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
    clock = Clock(arguments.costs, arguments.draft_ms)
    for spec in arguments.drafter or DRAFTERS:
        found: dict[str, dict[str, Figures]] = {}
        best: dict[str, float] = {}
        for policy in arguments.policy or POLICIES:
            name, settings = parse_named(spec)
            drafter = create_drafter(name, **settings)
            if drafter is None or drafter.spec.needs:
                parser.error(f"{spec} cannot be replayed: it drafts nothing, or needs more than tokens.")
            drafter.bind(Binding(Facts(info), None))  # type: ignore[arg-type]
            chosen, settings = parse_named(policy)
            found[policy] = replay(drafter, create_policy(chosen, **settings), texts, clock)
            if chosen == "fixed":
                for category, figures in found[policy].items():
                    best[category] = max(best.get(category, 0.0), figures.speed)
        for policy, figures_of in found.items():
            for line in lines(figures_of, best):
                print(json.dumps({"drafter": spec, "policy": policy, **line, **about}), flush=True)


if __name__ == "__main__":
    main()
