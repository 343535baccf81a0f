"""The step-level graphs beside a plain transformers loop that routes the same way, and what a node costs.

    python benchmarks/bench_step_loop.py [--problems 64] > benchmarks/results/step_loop.jsonl

GlimpRouter between the pocket models, greedy, at one threshold, one problem at a time and eight at once. The plain
loop asks the draft for the first token's logits, computes the entropy, and lets `generate` of the model that was chosen
write the step; eight at once are padded on the left, as its users do. One at a time, a second loop keeps each model's
cache of keys and values from step to step. All solve the same problems, in turns; medians are compared, and how many
texts agree is told. A node's cost is the time of a graph over models that answer at once, less that of a bare LangGraph
graph of as many nodes that do nothing, by the number of nodes that ran.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from bench_decode import machine
from langgraph.graph import END, START, StateGraph
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.models.load import find_source
from draftproof.drafting.pocket.evaluation import held_out_problems
from draftproof.drafting.pocket.problems import SEPARATOR
from draftproof.drafting.pocket.truth import read_answer
from draftproof.language_model import Ability, Completion, Context, FirstToken, Request, StopCause
from draftproof.pipelines.glimp_router import create_glimp_router

TOP = 20
LONGEST_STEP = 64
MOST_STEPS = 24


class Nowhere:
    def add(self, verdicts: Sequence[Any]) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draft", default="pocket-draft")
    parser.add_argument("--target", default="pocket-target")
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    asked = [each.text for each in held_out_problems(arguments.problems)]
    plain = PlainLoop(arguments.draft, arguments.target, arguments.threshold)
    draft, target = LocalLanguageModel(arguments.draft), LocalLanguageModel(arguments.target)
    graph = create_glimp_router(draft, target, threshold=arguments.threshold, top=TOP, log=Nowhere())
    origin = machine(arguments) | {"benchmark": "step_loop", "threshold": arguments.threshold}
    for batch in (1, 8):

        def ours(texts: Sequence[str], batch: int = batch) -> list[str]:
            with ThreadPoolExecutor(batch) as pool:
                return [made["text"] for made in pool.map(lambda text: graph.invoke({"problem": text}), texts)]

        def theirs(texts: Sequence[str], batch: int = batch) -> list[str]:
            return [text for first in range(0, len(texts), batch) for text in plain.solve(texts[first : first + batch])]

        solvers: dict[str, Callable[[Sequence[str]], list[str]]] = {"draftproof": ours, "transformers": theirs}
        if batch == 1:
            solvers["transformers_cached"] = lambda texts: [plain.solve_one(text) for text in texts]
        times: dict[str, list[float]] = {name: [] for name in solvers}
        made: dict[str, list[str]] = {}
        for solve in solvers.values():
            solve(asked[:batch])
        for _ in range(arguments.repeats):  # in turns, so that a slow minute slows all
            for name, solve in solvers.items():
                started = time.perf_counter()
                made[name] = solve(asked)
                times[name].append(time.perf_counter() - started)
        seconds = {name: statistics.median(each) for name, each in times.items()}
        peers = [name for name in solvers if name != "draftproof"]
        line = {
            "batch": batch,
            "problems": len(asked),
            "seconds": seconds,
            "all_seconds": times,
            "speedup": {name: seconds[name] / seconds["draftproof"] for name in peers},
            "same_text": {name: share(made, name, str.strip) for name in peers},
            "same_answer": {name: share(made, name, read_answer) for name in peers},
        }
        print(json.dumps(line), file=sys.stderr)
        print(json.dumps(origin | line))
    line = node_cost(arguments.repeats)
    print(json.dumps(line), file=sys.stderr)
    print(json.dumps(origin | line))


def share(made: dict[str, list[str]], name: str, what: Callable[[str], object]) -> float:
    """Of the peer's texts, how many are the same as ours."""
    return statistics.fmean(what(a) == what(b) for a, b in zip(made["draftproof"], made[name], strict=True))


class PlainLoop:
    """What one writes with transformers alone."""

    def __init__(self, draft: str, target: str, threshold: float) -> None:
        folder = find_source(target)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.draft = AutoModelForCausalLM.from_pretrained(find_source(draft), dtype=torch.float32).eval()
        self.target = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.threshold = threshold
        self.ends = [self.tokenizer.eos_token_id, self.tokenizer.convert_tokens_to_ids(SEPARATOR)]

    @torch.inference_mode()
    def solve(self, problems: Sequence[str]) -> list[str]:
        written = [""] * len(problems)
        done = [False] * len(problems)
        for _ in range(MOST_STEPS):
            left = [index for index in range(len(problems)) if not done[index]]
            if not left:
                break
            inputs = self._inputs([problems[index] + SEPARATOR + written[index] for index in left])
            logits = self.draft(**inputs).logits[:, -1]
            entropies = self._entropies(logits)
            first = logits.argmax(-1).tolist()
            the = self.tokenizer.convert_tokens_to_ids("The")
            for model in (self.draft, self.target):
                mine = [
                    index
                    for index, entropy, token in zip(left, entropies, first, strict=True)
                    if (entropy > self.threshold or token == the) == (model is self.target)
                ]
                if not mine:
                    continue
                inputs = self._inputs([problems[index] + SEPARATOR + written[index] for index in mine])
                out = model.generate(
                    **inputs,
                    max_new_tokens=LONGEST_STEP,
                    do_sample=False,
                    eos_token_id=self.ends,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
                for index, row in zip(mine, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
                    text = self.tokenizer.decode(row, skip_special_tokens=True)
                    written[index] += text
                    done[index] = not text.endswith(SEPARATOR)
        return written

    @torch.inference_mode()
    def solve_one(self, problem: str) -> str:
        """One problem, each model with a cache of its own that grows with the text."""
        the = self.tokenizer.convert_tokens_to_ids("The")
        ids = self.tokenizer(problem + SEPARATOR, return_tensors="pt").input_ids
        begin = ids.shape[1]
        caches = {id(model): DynamicCache(config=model.config) for model in (self.draft, self.target)}
        for _ in range(MOST_STEPS):
            known = caches[id(self.draft)].get_seq_length()
            logits = self.draft(ids[:, known:], past_key_values=caches[id(self.draft)]).logits[:, -1]
            caches[id(self.draft)].crop(-1)  # `generate` wants to read a token itself
            hard = self._entropies(logits)[0] > self.threshold or int(logits.argmax()) == the
            model = self.target if hard else self.draft
            ids = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                past_key_values=caches[id(model)],
                max_new_tokens=LONGEST_STEP,
                do_sample=False,
                eos_token_id=self.ends,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            if int(ids[0, -1]) != self.ends[1]:
                break
        return str(self.tokenizer.decode(ids[0, begin:], skip_special_tokens=True))

    def _inputs(self, texts: list[str]) -> Any:
        return self.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)

    def _entropies(self, logits: Tensor) -> list[float]:
        probabilities = torch.softmax(logits, -1).topk(TOP).values
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
        return (-(probabilities * probabilities.log()).sum(-1)).tolist()


class AtOnce:
    """A model that has its answer ready: steps without end until it is asked for the last."""

    abilities = frozenset(Ability)
    deterministic = True

    def __init__(self, name: str, steps: int) -> None:
        self.name = name
        self.identity = f"{name}#0"
        self.steps = steps

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._next(len(request.context.written)) for request in requests]

    def _next(self, written: int) -> Completion:
        last = written == self.steps - 1
        text = f"step {written}" + ("" if last else SEPARATOR)
        cause, stop = (StopCause.END, "") if last else (StopCause.STOP, SEPARATOR)
        return Completion(text, cause, stop, tokens=4, logprobs=(-0.1,) * 4)

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        return [FirstToken(float(len(context.written) % 2), top, (("So", 1.0),)) for context in contexts]

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> Any:
        raise NotImplementedError


class Numbered(TypedDict):
    number: int


def node_cost(repeats: int, steps: int = 60) -> dict[str, Any]:
    """Milliseconds of a node of ours beyond one that does nothing."""
    graph = create_glimp_router(AtOnce("draft", steps), AtOnce("target", steps), threshold=0.5, log=Nowhere())
    config = {"recursion_limit": 20 * steps}
    nodes = sum(1 for _ in graph.stream({"problem": "p"}, config, stream_mode="updates"))
    if nodes <= 3 * steps:
        raise SystemExit(f"The graph ended after {nodes} nodes, and {steps} steps take three each.")
    bare = bare_graph(nodes)
    ours = fastest(lambda: graph.invoke({"problem": "p"}, config), repeats)
    empty = fastest(lambda: bare.invoke({"number": 0}, {"recursion_limit": 2 * nodes}), repeats)
    return {
        "nodes": nodes,
        "graph_ms": 1000 * ours,
        "bare_ms": 1000 * empty,
        "overhead_ms_per_node": 1000 * (ours - empty) / nodes,
    }


def bare_graph(nodes: int) -> Any:
    graph: Any = StateGraph(Numbered)
    graph.add_node("one", lambda state: {"number": state["number"] + 1})
    graph.add_node("two", lambda state: {"number": state["number"] + 1})
    graph.add_edge(START, "one")
    graph.add_conditional_edges("one", lambda state: END if state["number"] >= nodes else "two", ["two", END])
    graph.add_conditional_edges("two", lambda state: END if state["number"] >= nodes else "one", ["one", END])
    return graph.compile()


def fastest(work: Callable[[], object], repeats: int) -> float:
    work()
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
