"""Tokens per second of the engine, beside transformers and llama.cpp, prompt by prompt in one run.

    python benchmarks/bench_decode.py [--target smollm2-135m] [--per-category 10] [--gguf FILE.gguf] [--only PEER …]

Greedy, batch 1, float32, the same token ids for everybody. One JSON line for each prompt and peer, then one for each
category and peer (`spec-bench`: its six categories together, without the copying ones), then differences between
outputs, each with the noise of float32 there. Seconds are those of a whole call, prefill included. A run that was
stopped goes on with `--raw FILE`, which keeps what was measured. Ends with 1 when an output of ours differs by more
than noise.

llama.cpp is a peer when `llama-cpp-python` is installed and `--gguf` names the model's GGUF file: it runs in float32,
dequantised by its own quantiser, and as the file is. transformers' early exit is slow: `--early-exit-prompts` bounds
how many prompts of a category it gets.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from decode_peers import LlamaCpp, Ours, Peer, float32_gguf, transformers_peers
from decode_prompts import CATEGORIES, DATA, BenchPrompt, prompts

from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.models.load import LoadedModel, find_source, load_model
from draftproof.store.runs import git_commit

Line = dict[str, Any]
PLAIN = "transformers generate"
EARLY_EXIT = "transformers early exit"
SPEC_BENCH = "spec-bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="smollm2-135m")
    parser.add_argument("--per-category", type=int, default=10)
    parser.add_argument("--categories", nargs="+", default=CATEGORIES)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--drafters", nargs="+", default=["suffix"], help="NAME[:key=value,…] of our engine")
    parser.add_argument("--policies", nargs="+", default=["cost"], help="each drafter runs under each of them")
    parser.add_argument("--assistant", help="folder of an assistant model for transformers")
    parser.add_argument("--early-exit-prompts", type=int, default=1)
    parser.add_argument("--gguf", type=Path, help="the target as GGUF, for llama.cpp")
    parser.add_argument("--only", nargs="+", help="peers whose name begins so")
    parser.add_argument("--raw", type=Path, help="file of single measurements to go on from and to append to")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(json.dumps({"benchmark": "decode", "not_run": "no data sets; DRAFTPROOF_DATA names their folder"}))
        return
    torch.set_num_threads(arguments.threads)
    lines = list(read(arguments.raw))
    done = {(line["peer"], line["prompt"]) for line in lines}
    peers = [peer for peer in make_peers(arguments) if wanted(peer, arguments.only)]
    left_out = [{"measurement": "left out", "peer": peer, "why": why} for peer, why in missing(arguments)]
    decoder = SpeculativeDecoder(load_model(arguments.target, backend="transformers"), None)
    for prompt in prompts(arguments.per_category, tuple(arguments.categories)):
        ids = decoder.encode([{"role": "user", "content": prompt.text}])
        for peer in peers:
            if (peer.name, prompt.name) in done:
                continue
            if peer.name == EARLY_EXIT and prompt.rank >= arguments.early_exit_prompts:
                continue
            line = measured(peer, prompt, ids, arguments.new_tokens)
            lines.append(line)
            if arguments.raw:
                with arguments.raw.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            note(line)
    origin = machine(arguments)
    unlike = list(differences(lines, decoder, load_model(arguments.target)))
    for line in [*lines, *summaries(lines), *unlike, *left_out]:
        print(json.dumps(origin | {key: value for key, value in line.items() if key not in ("ids", "tokens")}))
    sys.exit(any(line["peer"].startswith("draftproof") and not line["noise_explains"] for line in unlike))


def missing(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    if not arguments.gguf:
        yield "llama.cpp", "--gguf names no file"
    if not arguments.assistant:
        yield "transformers assistant model", "--assistant names no model"


def make_peers(arguments: argparse.Namespace) -> Iterator[Peer]:
    from transformers import AutoModelForCausalLM

    loaded = load_model(arguments.target)
    yield Ours("draftproof plain", loaded, None)
    for drafter in arguments.drafters:
        for policy in arguments.policies:
            yield Ours(f"draftproof {drafter} {policy}", loaded, drafter, policy)
    folder = find_source(arguments.target)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assistant = None
    if arguments.assistant:
        assistant = AutoModelForCausalLM.from_pretrained(arguments.assistant, dtype=torch.float32).eval()
    yield from transformers_peers(model, assistant, early_exit=model.config.num_hidden_layers // 3)
    if arguments.gguf:
        stops = loaded.model.info.eos_ids
        exact = float32_gguf(arguments.gguf)
        yield LlamaCpp("llama.cpp float32", exact, stops, arguments.threads)
        yield LlamaCpp("llama.cpp as quantised", arguments.gguf, stops, arguments.threads)


def wanted(peer: Peer, only: list[str] | None) -> bool:
    return only is None or any(peer.name.startswith(name) for name in only)


def measured(peer: Peer, prompt: BenchPrompt, ids: list[int], new_tokens: int) -> Line:
    started = time.perf_counter()
    tokens, facts = peer(ids, new_tokens)
    seconds = time.perf_counter() - started
    return {
        "measurement": "prompt",
        "peer": peer.name,
        "category": prompt.category,
        "prompt": prompt.name,
        "prompt_tokens": len(ids),
        "new_tokens": len(tokens),
        "seconds": seconds,
        "tokens_per_second": len(tokens) / seconds,
        "ids": ids,
        "tokens": tokens,
        **facts,
    }


def summaries(lines: list[Line]) -> Iterator[Line]:
    """Tokens over seconds of each category, with ratios to plain `generate` on the same prompts."""
    for category in [*dict.fromkeys(line["category"] for line in lines), SPEC_BENCH]:
        if category == SPEC_BENCH:
            of = [line for line in lines if line["category"] != "copy"]
        else:
            of = [line for line in lines if line["category"] == category]
        seconds: dict[str, dict[str, Line]] = defaultdict(dict)
        for line in of:
            seconds[line["peer"]][line["prompt"]] = line
        for peer, mine in seconds.items():
            base = seconds.get(PLAIN, {})
            shared = [name for name in mine if name in base]
            own = [line["acceptance_length"] for line in mine.values() if line.get("rounds")]
            yield {
                "measurement": "category",
                "category": category,
                "peer": peer,
                "prompts": len(mine),
                "tokens_per_second": speed(mine.values()),
                "times_generate": speed(mine[n] for n in shared) / speed(base[n] for n in shared) if shared else None,
                "acceptance_length": statistics.fmean(own) if own else None,
            }


def speed(lines: Any) -> float:
    each = list(lines)
    return float(sum(line["new_tokens"] for line in each) / sum(line["seconds"] for line in each))


def differences(lines: list[Line], theirs: SpeculativeDecoder, ours: LoadedModel) -> Iterator[Line]:
    """Where a peer's tokens part from plain `generate`, with the gap of the two best logits there, and the noise: the
    largest difference between logits of passes over one and over several tokens, and of the two forward passes."""
    plain = {line["prompt"]: line for line in lines if line["peer"] == PLAIN}
    for line in lines:
        base = plain.get(line["prompt"])
        if base is None or line["tokens"] == base["tokens"] or line["peer"] == "llama.cpp as quantised":
            continue
        pairs = enumerate(zip(line["tokens"], base["tokens"], strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(line["tokens"]), len(base["tokens"])))
        ids = [*line["ids"], *base["tokens"][:at]]
        row = next_logits(theirs.model, ids, 1)
        others = [next_logits(model, ids, last) for model in (theirs.model, ours.model) for last in (1, 2, 4, 8, 16)]
        noise = max(float((other - row).abs().max()) for other in others)
        best = row.topk(2)
        gap = float(best.values[0] - best.values[1])
        yield {
            "measurement": "difference",
            "peer": line["peer"],
            "prompt": line["prompt"],
            "at": at,
            "top_two": best.indices.tolist(),
            "gap": gap,
            "noise": noise,
            "noise_explains": gap <= noise and set(line["tokens"][at : at + 1]) <= set(best.indices.tolist()),
            "said": line["tokens"][at : at + 1],
            "generate_said": base["tokens"][at : at + 1],
        }


def next_logits(model: CachedModel, ids: list[int], last: int) -> torch.Tensor:
    """After `ids`, of which the last few are fed in a pass of their own."""
    model.add_row(-1)
    try:
        model.forward([RowTokens(-1, torch.tensor(ids[:-last]))], Wanted(logits="none"))
        model.commit(-1, range(len(ids) - last))
        logits = model.forward([RowTokens(-1, torch.tensor(ids[-last:]))], Wanted(logits="last")).logits
    finally:
        model.drop_row(-1)
    assert logits is not None
    return logits[0]


def read(raw: Path | None) -> Iterator[Line]:
    if raw is not None and raw.exists():
        for line in raw.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def note(line: Line) -> None:
    print(
        f"{line['category']:15s} {line['prompt']:16s} {line['peer']:34s} {line['new_tokens']:4d} tokens "
        f"{line['tokens_per_second']:7.1f}/s  acceptance length {line.get('acceptance_length', 1.0):.2f}",
        file=sys.stderr,
    )


def machine(arguments: argparse.Namespace) -> Line:
    import transformers

    model = next((li for li in Path("/proc/cpuinfo").read_text().splitlines() if li.startswith("model name")), "?")
    return {
        "benchmark": "decode",
        "machine": f"{model.partition(': ')[2]} x{os.cpu_count()}",
        "threads": arguments.threads,
        "target": arguments.target,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": git_commit(Path(__file__).resolve().parent.parent),
    }


if __name__ == "__main__":
    main()
