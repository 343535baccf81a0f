"""The default length policy beside fixed draft lengths, prompt by prompt in one run.

    python benchmarks/bench_policies.py [--drafter suffix] [--per-category 5] > results/policies.jsonl

Greedy, batch 1. One JSON line for each category and policy; `of_best_fixed` is the default's tokens a second over
those of whichever fixed length was best in that category, chosen with hindsight.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from bench_decode import machine, measured, note, summaries
from decode_peers import Ours
from decode_prompts import CATEGORIES, DATA, prompts

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.models.load import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="smollm2-135m")
    parser.add_argument("--drafter", default="suffix")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 4, 6, 8, 12, 16])
    parser.add_argument("--per-category", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "policies", "not_run": "the data sets are not beside the checkout"}))
        return
    torch.set_num_threads(arguments.threads)
    loaded = load_model(arguments.target)
    policies = ["cost", *(f"fixed:draft_length={length}" for length in arguments.lengths)]
    peers = [Ours(policy, loaded, arguments.drafter, policy) for policy in policies]
    peers.append(Ours("no drafts", loaded, None))
    decoder = SpeculativeDecoder(loaded, None)
    lines = []
    for prompt in prompts(arguments.per_category, CATEGORIES):
        ids = decoder.encode([{"role": "user", "content": prompt.text}])
        for peer in peers:
            lines.append(measured(peer, prompt, ids, arguments.new_tokens))
            note(lines[-1])
    origin = machine(arguments) | {"benchmark": "policies", "drafter": arguments.drafter}
    told: list[dict[str, Any]] = list(summaries(lines))
    for line in told:
        if line["peer"] == "cost":
            fixed = [
                other["tokens_per_second"]
                for other in told
                if other["category"] == line["category"] and other["peer"] != "cost"
            ]
            line["of_best_fixed"] = line["tokens_per_second"] / max(fixed)
        print(json.dumps(origin | line))


if __name__ == "__main__":
    main()
