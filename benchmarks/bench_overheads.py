"""What the engine takes beside decoding: memory against plain `generate`, and time for storing a verdict a round.

    python benchmarks/bench_overheads.py [--target smollm2-135m] [--prompts 12] > results/overheads.jsonl

- `memory`: peak resident megabytes of a process that loads the model itself and writes 128 tokens.
- `verdicts`: seconds that the store takes for each generation of a run (SQLite, committed one by one, a verdict for
  every round), as a share of the seconds that decoding took. The first generation of the process is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from draftproof.drafting.models.load import find_source
from draftproof.store.runs import git_commit

PROBLEM = "A baker sells 48 rolls in the morning and half as many in the afternoon. How many rolls does she sell?"
TOKENS = 128
Line = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--drafter", default="suffix")
    parser.add_argument("--peak-of", choices=["generate", "draftproof"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = find_source(arguments.target)
    if arguments.peak_of:
        _ONE[arguments.peak_of](folder, arguments.drafter)
        print(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1))
        return
    origin = {
        "target": arguments.target,
        "drafter": arguments.drafter,
        "commit": git_commit(Path(__file__).resolve().parent.parent),
    }
    for line in (memory(arguments), verdicts(folder, arguments)):
        print(
            json.dumps({"benchmark": "overheads", **origin, **line, "load": round(os.getloadavg()[0], 1)}), flush=True
        )


def memory(arguments: argparse.Namespace) -> Line:
    peaks = {}
    for name in _ONE:
        command = [sys.executable, __file__, "--target", arguments.target, "--drafter", arguments.drafter]
        done = subprocess.run([*command, "--peak-of", name], capture_output=True, text=True, check=True)
        peaks[name] = float(done.stdout.split()[-1])
    return {"measure": "memory", "megabytes": peaks, "ratio": round(peaks["draftproof"] / peaks["generate"], 3)}


def plain_generate(folder: str | Path, drafter: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    ids = torch.arange(100, 164)[None]
    model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)


def with_draftproof(folder: str | Path, drafter: str) -> None:
    from draftproof.drafting.decoder import SpeculativeDecoder

    SpeculativeDecoder(folder, drafter).generate([list(range(100, 164))], max_new_tokens=TOKENS)


def verdicts(folder: str | Path, arguments: argparse.Namespace) -> Line:
    from draftproof.cli.generation_log import GenerationLog
    from draftproof.drafting.decoder import SpeculativeDecoder

    decoder = SpeculativeDecoder(folder, arguments.drafter)
    decoding = storing = 0.0
    rounds = 0
    with tempfile.TemporaryDirectory() as place:
        log = GenerationLog(f"{place}/verdicts.db", PROBLEM, "generate", {})
        for number in range(-1, arguments.prompts):
            prompt = [{"role": "user", "content": f"{PROBLEM} She does so on {number + 2} days."}]
            started = time.perf_counter()
            (made,) = decoder.generate([prompt], max_new_tokens=TOKENS)
            between = time.perf_counter()
            log(made)
            if number < 0:  # statements that are compiled once a process
                continue
            decoding += between - started
            storing += time.perf_counter() - between
            rounds += made.totals.rounds
        log.finish(None)
    return {
        "measure": "verdicts",
        "rounds": rounds,
        "decoding_s": round(decoding, 3),
        "storing_s": round(storing, 3),
        "share": round(storing / decoding, 4),
    }


_ONE = {"generate": plain_generate, "draftproof": with_draftproof}

if __name__ == "__main__":
    main()
