"""Hydra against Medusa heads: equal text, equal steps, equal seed; accuracy, tokens a verification, time of a draft.

    python benchmarks/bench_heads.py [--target smollm2-135m] [--data FOLDER] [--text prompts.jsonl] [--tokens 100000]

One JSON line for each kind of head and vocabulary. `--data` keeps the target's text, its features and trained heads,
and may be the folder `--data` of `draftproof train heads`: a run that was stopped goes on there. Tokens a verification
are those of a replay of the held-out texts, which makes the very rounds that the engine would make, policy aside.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DraftRequest
from draftproof.drafting.drafters.head_models import load_heads, save_heads
from draftproof.drafting.drafters.heads import HeadsDrafter
from draftproof.drafting.drafters.vocab_trim import forced_ids, head_times, trim_vocabulary
from draftproof.drafting.model import CachedModel, RowTokens
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.training import self_text
from draftproof.drafting.training.estimates import fastest_dtype
from draftproof.drafting.training.features import Features, extract
from draftproof.drafting.training.heads import HeadsTraining, held_out_texts, train_heads
from draftproof.drafting.training.prompts import BUILT_IN, encode_prompts, prompt_ids, read_prompts
from draftproof.drafting.training.replay import replay
from draftproof.drafting.training.self_text import SelfText, TextPlan
from draftproof.store.runs import git_commit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="smollm2-135m")
    parser.add_argument("--data", type=Path, help="keeps the target's text and features; else they are made anew")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--vocab", type=int, nargs="+", default=[8192])
    parser.add_argument("--kinds", nargs="+", default=["hydra", "medusa"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.data is None:
        with tempfile.TemporaryDirectory() as folder:
            arguments.data = Path(folder)
            measure(arguments)
    else:
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    loaded = load_model(arguments.target)
    texts = written(loaded, arguments)
    features = extract(loaded.model, texts, arguments.data / "features")
    facts = machine(arguments) | {"target_pass_ms": round(pass_ms(loaded.model), 2)}
    for vocab in arguments.vocab:
        for kind in arguments.kinds:
            print(json.dumps(facts | compared(loaded, texts, features, kind, vocab, arguments)), flush=True)


def written(loaded: LoadedModel, arguments: argparse.Namespace) -> list[SelfText]:
    prompts = BUILT_IN if arguments.text is None else read_prompts(arguments.text)
    room = loaded.model.info.context_length - arguments.max_new_tokens
    plan = TextPlan(
        encode_prompts(prompts, lambda text: prompt_ids(loaded.tokenizer, text), room=room),
        arguments.tokens,
        max_new_tokens=arguments.max_new_tokens,
        batch=arguments.batch,
        seed=arguments.seed,
    )
    return self_text.generate(loaded.model, plan, arguments.data / "text.jsonl")


def compared(
    loaded: LoadedModel, texts: list[SelfText], features: Features, kind: Any, vocab: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    model = loaded.model
    held = held_out_texts(features)
    trimmed = trim_vocabulary(
        [text.ids[text.prompt_length :] for text, out in zip(texts, held.tolist(), strict=True) if not out],
        vocab,
        model.info.vocab_size,
        forced=forced_ids(loaded.vocabulary, model.info.eos_ids),
    )
    training = HeadsTraining(kind=kind, n_heads=arguments.heads, epochs=arguments.epochs, seed=arguments.seed)
    place = arguments.data / f"{kind}-{trimmed.size}"
    if not place.exists():
        digest = self_text.digest(texts)
        dtype = fastest_dtype(model.info.hidden_size, trimmed.size)
        made, notes = train_heads(model, features, trimmed, training, data_digest=digest, dtype=dtype)
        save_heads(place, made, notes)
    heads, record = load_heads(place, target_digest=model.info.digest)
    other = {name: value for name, value in asdict(training).items() if record.training[name] != value}
    if other or record.data_digest != self_text.digest(texts):
        raise SystemExit(f"{place} was trained on other text or with other settings: {', '.join(other) or 'text'}")
    rows = held.nonzero().flatten().tolist()
    times = head_times(model, trimmed.ids)
    line: dict[str, Any] = {
        "kind": kind,
        "vocabulary": trimmed.size,
        "coverage": round(record.training["held_out_coverage"], 4),
        "train_positions": record.training["train_positions"],
        "top1": [round(row[0], 4) for row in record.accuracies],
        "full_head_ms": round(times.full_ms, 2),
        "trimmed_head_ms": round(times.trimmed_ms, 2),
    }
    for nodes in (7, 15):
        timed = Timed(heads, record, max_nodes=nodes)
        done = [replay(timed, model, features, [row], budget=nodes) for row in rows[:16]]
        whole = replay(HeadsDrafter(heads, record, max_nodes=nodes), model, features, rows, budget=nodes)
        line[f"tokens_per_pass_{nodes}"] = round(whole.block_efficiency, 3)
        line[f"draft_ms_{nodes}"] = round(statistics.median(timed.milliseconds), 2)
        assert all(each.rounds for each in done)
    return line


class Timed(HeadsDrafter):
    """Notes how long each draft took."""

    def __init__(self, *parts: Any, **settings: Any) -> None:
        super().__init__(*parts, **settings)
        self.milliseconds: list[float] = []

    def propose(self, request: DraftRequest) -> Draft:
        started = time.perf_counter()
        draft = super().propose(request)
        if max(request.budget):
            self.milliseconds.append(1000.0 * (time.perf_counter() - started))
        return draft


def pass_ms(model: CachedModel, repeats: int = 10) -> float:
    """Of the target's pass over one token of one row."""
    token = torch.tensor([5])
    model.add_row(0)
    model.forward([RowTokens(0, token.repeat(64))])
    model.commit(0, range(64))
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        model.forward([RowTokens(0, token)])
        times.append(1000.0 * (time.perf_counter() - started))
    model.drop_row(0)
    return statistics.median(times)


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    model = next((li for li in Path("/proc/cpuinfo").read_text().splitlines() if li.startswith("model name")), "?")
    return {
        "benchmark": "heads",
        "machine": f"{model.partition(': ')[2]} x{os.cpu_count()}",
        "threads": arguments.threads,
        "torch": torch.__version__,
        "commit": git_commit(Path(__file__).resolve().parent.parent),
        "target": arguments.target,
        "seed": arguments.seed,
        "epochs": arguments.epochs,
    }


if __name__ == "__main__":
    main()
