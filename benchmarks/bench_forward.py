"""What a pass of the target costs: milliseconds over k tokens, our lean backend beside plain transformers.

    python benchmarks/bench_forward.py [MODEL] [--contexts 128 2048] [--seconds 2] [--threads 2] > results/forward.jsonl
    python benchmarks/bench_forward.py --draw results/forward.jsonl

MODEL is a folder of a checkpoint of the Llama family, or the name of a fetched model. All backends compute in
float32 over the same random ids, with a cache of so many tokens; all k rows of logits are computed. `lean` keeps
weights in the smallest form that is exact, which many checkpoints have; `lean, 32 bits` is the same with weights
that a factor near 1 has given all of their bits, so that there is no smaller form.
One JSON line a measurement:

- `read`: gigabytes a second of a plain matrix as large as all weights, times a vector: `read_ms`, one reading of the
  weights, is the least that a pass can take. The packed head alone may fit into a cache, and is told beside it.
- `pass`: fastest and median milliseconds of a pass over k tokens.
- `prefill`: tokens per second of 512 tokens in one pass into an empty cache.
- `memory`: bytes of all weights in float32, and what the lean backend keeps resident for them.
- `forms`: how many matrices have which form, and their bytes.
- `noise`: the largest difference between logits of one text, computed in other ways. float32 rounds each differently.
- `summary`: ratios.

Passes of a few milliseconds on two threads suffer from any other work on the machine: the load is in every line, and
the fastest pass is the figure to compare.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from forward_picture import forward_picture
from torch import Tensor

from draftproof.drafting.backends.lean_checkpoint import checkpoint_config, checkpoint_info, checkpoint_source
from draftproof.drafting.backends.lean_llama import LeanLlama
from draftproof.drafting.backends.lean_pages import gather
from draftproof.drafting.backends.lean_shape import lean_shape
from draftproof.drafting.model import RowTokens, Wanted
from draftproof.drafting.models.checkpoint import read_checkpoint
from draftproof.drafting.models.load import find_source
from draftproof.errors import DraftproofError
from draftproof.store.runs import git_commit

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
PREFILL = 512
FEWEST = 5
_ROOT = Path(__file__).resolve().parent.parent
Line = dict[str, Any]


class Lean:
    def __init__(self, folder: Path, name: str = "lean") -> None:
        self.name = name
        before = resident_bytes()
        if name == "lean":
            self.model = LeanLlama.from_safetensors(folder)
        else:
            checkpoint = read_checkpoint(folder)
            config = checkpoint_config(checkpoint)
            source = checkpoint_source(checkpoint, tied=config.tie_word_embeddings)
            info = checkpoint_info(checkpoint, config, name=None, backend="lean-llama")
            self.model = LeanLlama(info, lean_shape(config), lambda tensor: all_bits_used(source(tensor)))
        self.model.add_row(0)
        self.forward(torch.arange(2))
        self.resident = resident_bytes() - before

    def fill(self, ids: Tensor) -> None:
        self.model.truncate(0, 0)
        for piece in ids.split(PREFILL) if len(ids) else ():
            self.model.forward([RowTokens(0, piece)], Wanted(logits="none"))
            self.model.commit(0, range(len(piece)))

    def forward(self, ids: Tensor) -> Tensor:
        return cast(Tensor, self.model.forward([RowTokens(0, ids)]).logits)


class Transformers:
    name = "transformers"

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    def fill(self, ids: Tensor) -> None:
        from transformers import DynamicCache

        self.cache = DynamicCache()
        if len(ids):
            self._run(ids, keep=1)

    def forward(self, ids: Tensor) -> Tensor:
        logits = self._run(ids, keep=0)
        self.cache.crop(-len(ids))
        return logits

    @torch.inference_mode()
    def _run(self, ids: Tensor, keep: int) -> Tensor:
        result = self.model(ids[None], past_key_values=self.cache, use_cache=True, logits_to_keep=keep)
        return cast(Tensor, result.logits[0])


def all_bits_used(tensor: Tensor | None) -> Tensor | None:
    return tensor if tensor is None or tensor.dim() < 2 else tensor.float() * (1 + 9 * 2**-23)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--contexts", type=int, nargs="+", default=[128, 2048])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each size and backend, at least")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", type=Path, metavar="RESULTS", help="only draw docs/pictures/forward-cost.svg")
    options = parser.parse_args()
    if options.draw:
        lines = [json.loads(line) for line in options.draw.read_text(encoding="utf-8").splitlines()]
        if not any(line.get("measure") == "pass" for line in lines):
            parser.error(f"{options.draw} holds no passes: {lines[0].get('not_run', 'was the benchmark stopped?')}")
        picture = _ROOT / "docs" / "pictures" / "forward-cost.svg"
        picture.parent.mkdir(exist_ok=True)
        picture.write_text(forward_picture(lines), encoding="utf-8")
        return
    try:
        folder = find_source(options.model)
    except DraftproofError as error:
        print(json.dumps({"benchmark": "forward", "not_run": str(error)}))
        return
    torch.set_num_threads(options.threads)
    origin = {"benchmark": "forward", "model": Path(options.model).name, **machine(options)}
    for line in measure(folder, options):
        print(json.dumps(origin | line | {"load": round(os.getloadavg()[0], 1)}), flush=True)


def measure(folder: Path, options: argparse.Namespace) -> Iterator[Line]:
    lean, full, peer = Lean(folder), Lean(folder, "lean, 32 bits"), Transformers(folder)
    everybody = (lean, full, peer)
    generator = torch.Generator().manual_seed(options.seed)
    vocab = lean.model.info.vocab_size
    text = torch.randint(0, vocab, (max(*options.contexts, PREFILL) + max(SIZES),), generator=generator)

    weights = sum(each.numel() * each.element_size() for each in peer.model.parameters())
    read = read_speed(full, weights, options.seconds)
    read_ms = weights / read["gigabytes_per_second"] / 1e6
    yield {"measure": "read", **read, "weight_bytes": weights, "read_ms": round(read_ms, 2)}
    yield {"measure": "memory", "weight_bytes": weights, "lean_bytes": lean.resident}
    assert {each.form for each in full.model._packed()} == {"floats"}
    forms = Counter(each.form for each in lean.model._packed())
    packed = sum(each.memory[1] for each in lean.model._packed())
    yield {"measure": "forms", "matrices": dict(forms), "packed_bytes": packed}

    cost: dict[tuple[str, int, int], float] = {}
    for context in options.contexts:
        for backend in everybody:
            backend.fill(text[:context])
        for size in SIZES:
            ids = text[context : context + size]
            times = in_turns([lambda b=b, i=ids: b.forward(i) for b in everybody], options.seconds)
            for backend, seconds in zip(everybody, times, strict=True):
                cost[backend.name, context, size] = 1000 * min(seconds)
                yield {
                    "measure": "pass",
                    "backend": backend.name,
                    "context": context,
                    "tokens": size,
                    "ms": round(1000 * min(seconds), 2),
                    "ms_median": round(1000 * statistics.median(seconds), 2),
                    "passes": len(seconds),
                }

    speeds = {}
    for backend, seconds in zip(
        everybody, in_turns([lambda b=b: b.fill(text[:PREFILL]) for b in everybody], options.seconds), strict=True
    ):
        speeds[backend.name] = PREFILL / min(seconds)
        yield {
            "measure": "prefill",
            "backend": backend.name,
            "tokens": PREFILL,
            "tokens_per_second": round(PREFILL / min(seconds)),
        }
    yield noise(lean, peer, text[:64])
    for context, ours in product(options.contexts, (lean.name, full.name)):
        yield {
            "measure": "summary",
            "context": context,
            "backend": ours,
            "v1_over_read": round(cost[ours, context, 1] / read_ms, 2),
            "v8_over_v1": round(cost[ours, context, 8] / cost[ours, context, 1], 2),
            "times_transformers": {
                k: round(cost["transformers", context, k] / cost[ours, context, k], 2) for k in SIZES
            },
            "prefill_times_transformers": round(speeds[ours] / speeds["transformers"], 2),
        }


def read_speed(lean: Lean, weight_bytes: int, seconds: float) -> Line:
    """Gigabytes a second."""
    matrix, vector = torch.ones(weight_bytes // 2**12, 2**10), torch.ones(2**10)
    gather([(matrix.data_ptr(), matrix.nbytes)])  # on pages as large as those of the packed weights
    head, hidden = lean.model._ends.head, torch.ones(1, lean.model.info.hidden_size)
    (plain,) = in_turns([lambda: torch.mv(matrix, vector)], seconds)
    (packed,) = in_turns([lambda: head(hidden)], seconds)
    return {
        "gigabytes_per_second": round(matrix.nbytes / min(plain) / 1e9, 2),
        "packed_head": round(head.memory[1] / min(packed) / 1e9, 2),
    }


@torch.inference_mode()
def noise(lean: Lean, peer: Transformers, ids: Tensor) -> Line:
    """Of one text read whole, in eights and token by token."""

    def read(backend: Lean | Transformers, piece: int) -> Tensor:
        logits = []
        for low in range(0, len(ids), piece):
            backend.fill(ids[:low])
            logits.append(backend.forward(ids[low : low + piece]))
        return torch.cat(logits)

    whole, eights, single = (read(lean, piece) for piece in (len(ids), 8, 1))
    theirs, theirs_single = (read(peer, piece) for piece in (len(ids), 1))

    def apart(one: Tensor, other: Tensor) -> float:
        return float(f"{float((one - other).abs().max()):.2g}")

    return {
        "measure": "noise",
        "largest_logit": round(float(theirs.abs().max()), 1),
        "lean_1_and_8_tokens": apart(single, eights),
        "lean_1_and_64_tokens": apart(single, whole),
        "transformers_1_and_64_tokens": apart(theirs_single, theirs),
        "lean_and_transformers": apart(whole, theirs),
        "same_largest": float((whole.argmax(-1) == theirs.argmax(-1)).float().mean()),
    }


def in_turns(calls: list[Callable[[], object]], seconds: float) -> list[list[float]]:
    """Seconds of each call. Calls take turns, each several times in a row: decoding runs one model, and what it finds
    in the processor's caches is what its own last pass left there."""
    took: list[list[float]] = [[] for _ in calls]
    gc.disable()
    while min(map(len, took)) < FEWEST or min(map(sum, took)) < seconds:
        for call, times in zip(calls, took, strict=True):
            call()
            for _ in range(FEWEST):
                begin = time.perf_counter()
                call()
                times.append(time.perf_counter() - begin)
    gc.enable()
    return took


def resident_bytes() -> int:
    """Of this process, without mapped files; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def machine(options: argparse.Namespace) -> Line:
    import transformers

    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "machine": f"{models[0].partition(':')[2].strip()} x{os.cpu_count()}" if models else None,
        "threads": options.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": git_commit(_ROOT),
        "seed": options.seed,
    }


if __name__ == "__main__":
    main()
