"""Block verification against token verification on a real model: equal drafter, draft length, prompts and seeds.

    python benchmarks/bench_rules.py [--levels 12] [--drafter NAME[:key=value,…]] [--target smollm2-135m] [--prompts 10]

The draft model is the target with every 32 weights of a matrix rounded to so many levels, which is accepted often,
unless `--drafter` names another drafter that draws from its own law. It costs as much as the target: what is measured
is acceptance, not speed. Sampled at temperature 1. One JSON line for each rule: mean tokens a verification over all
rounds, and its difference to rule `token` with a 95 % interval (bootstrap over prompts). Rounds part where the rules
first decide differently, so that they are paired by prompt and seed, not round by round.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from decode_prompts import DATA, prompts
from transformers import AutoModelForCausalLM

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.models.load import find_source, load_model
from draftproof.drafting.sampling import Sampling
from draftproof.store.runs import git_commit

RULES = ("token", "block")
CATEGORIES = ("chat", "math_reasoning", "qa")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="smollm2-135m")
    parser.add_argument("--drafter", help="one that draws from its own law; default: the rounded target")
    parser.add_argument("--levels", type=int, default=12, help="of the rounded target's weights, in a group of 32")
    parser.add_argument("--length", type=int, default=6, help="drafted tokens a round")
    parser.add_argument("--prompts", type=int, default=10, help="of each category")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=128)
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "rules", "not_run": "no data sets; DRAFTPROOF_DATA names their folder"}))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.drafter is None:
            save_rounded(arguments.target, arguments.levels, Path(folder))
            arguments.drafter = f"small-lm:model={folder}"
            measure(arguments, {"drafter": f"the target in {arguments.levels} levels"})
        else:
            measure(arguments, {"drafter": arguments.drafter, "levels": None})


def measure(arguments: argparse.Namespace, told: dict[str, Any]) -> None:
    loaded = load_model(arguments.target)
    texts = [[{"role": "user", "content": each.text}] for each in prompts(arguments.prompts, CATEGORIES)]
    origin = {
        "benchmark": "rules",
        "commit": git_commit(Path(__file__).resolve().parent.parent),
        **vars(arguments),
        **told,
    }
    measured: dict[str, np.ndarray[Any, Any]] = {}
    for rule in RULES:
        decoder = SpeculativeDecoder(
            loaded, arguments.drafter, rule=rule, policy=f"fixed:draft_length={arguments.length}"
        )
        counts = []
        for seed in range(arguments.seeds):
            for text in texts:
                sampling = Sampling(temperature=1.0, seed=seed)
                (made,) = decoder.generate([text], max_new_tokens=arguments.new_tokens, sampling=sampling)
                # The last round is cut off by the limit, whatever was accepted.
                whole = [each for each in made.rounds if each.depth == arguments.length]
                counts.append((sum(each.accepted + 1 for each in whole), len(whole)))
        measured[rule] = np.array(counts, dtype=float)
        print(json.dumps(origin | {"rule": rule} | compared(measured[rule], measured["token"])), flush=True)


def save_rounded(target: str, levels: int, folder: Path) -> None:
    """A checkpoint whose matrices have `levels` evenly spaced values in each group of 32 numbers of a row."""
    source = find_source(target)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, local_files_only=True)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                groups = weight.view(weight.shape[0], -1, 32)
                low = groups.amin(-1, keepdim=True).half().float()
                step = ((groups.amax(-1, keepdim=True) - low).clamp(min=1e-6) / (levels - 1)).bfloat16().float()
                groups.copy_(((groups - low) / step).round() * step + low)
    model.save_pretrained(folder)
    for file in source.glob("*token*"):
        shutil.copy(file, folder)


def compared(of: np.ndarray[Any, Any], base: np.ndarray[Any, Any]) -> dict[str, Any]:
    """`of` and `base` [prompts and seeds, 2]: tokens and rounds."""
    draws = np.random.default_rng(0).integers(0, len(of), (2000, len(of)))
    differences = _ratio(of[draws].sum(1)) - _ratio(base[draws].sum(1))
    low, high = np.quantile(differences, [0.025, 0.975])
    return {
        "rounds": int(of[:, 1].sum()),
        "tokens_per_verification": round(float(_ratio(of.sum(0))), 3),
        "above_token": round(float(_ratio(of.sum(0)) - _ratio(base.sum(0))), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
    }


def _ratio(counts: np.ndarray[Any, Any]) -> Any:
    return counts[..., 0] / counts[..., 1]


if __name__ == "__main__":
    main()
