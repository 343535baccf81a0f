"""Step-level routing between the pocket models: what it saves, and what it costs in accuracy.

    python benchmarks/bench_routing.py collect --problems 1500 --out rows.jsonl
    python benchmarks/bench_routing.py sweep --problems 400 --prm PRM --router ROUTER --raw raw.jsonl \\
        > benchmarks/results/routing.jsonl

`collect` writes rows for `draftproof train router`, from problems that `sweep` does not use: scored by the problems'
own plan, or with `--prm` by that reward model, as the published router's are by its own. `sweep` solves problems at
every setting of every policy, through the real graphs, with greedy decoding: `--chosen-on` ones to choose each policy's
threshold, then the held-out ones: one JSON line a setting, then one for the comparisons (`routing_bars`), all with
bootstrap intervals over problems. Truth is the problems' own plan. `--raw` keeps a line for each problem and setting,
and a sweep of the same models, router and reward model that was stopped goes on from it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from bench_decode import machine
from routing_bars import bars, choose

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.pocket.evaluation import held_out_problems
from draftproof.drafting.pocket.problems import PocketProblem, problem
from draftproof.drafting.pocket.truth import answers, fault_of
from draftproof.metrics.bootstrap import bootstrap
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.glimp_router import create_glimp_router
from draftproof.pipelines.step_features import collected_rows
from draftproof.registry import create_verifier
from draftproof.verdict import Verdict
from draftproof.verifiers.pocket_step import PocketStepVerifier

RSD = (0.05, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998)
ROUTER = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
ORACLE = (-1.0, 0.0, 1.0)
CHOSEN = ("draft-only", "target-only", "rsd", "router", "glimpse")
"""Policies that an operating point is chosen for."""
GLIMPSE = (0.003, 0.01, 0.02, 0.03, 0.06, 0.1, 0.3, 1.0, 1.3)
Row = dict[str, Any]


class Kept:
    """A verdict log in memory: how many, since all are in the graphs' outputs as well."""

    def __init__(self) -> None:
        self.verdicts = 0

    def add(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts += len(verdicts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["collect", "sweep"], default="sweep")
    parser.add_argument("--draft", default="pocket-draft")
    parser.add_argument("--target", default="pocket-target")
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--chosen-on", type=int, default=300, help="problems that thresholds are chosen on")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--prm", help="folder of `draftproof train process-reward --base pocket-target`")
    parser.add_argument("--router", help="file of `draftproof train router`, from the rows of `collect`")
    parser.add_argument("--prm-router", help="another, from rows that were collected with --prm")
    parser.add_argument("--policies", nargs="+", default=["alone", "rsd", "router", "oracle", "glimpse"])
    arguments = parser.parse_args()
    trained = {"rsd": arguments.prm, "router": arguments.router}
    missing = [policy for policy, place in trained.items() if policy in arguments.policies and not place]
    if arguments.what == "sweep" and missing:
        print(json.dumps({"benchmark": "routing", "not_run": "no --prm and --router, which are trained first"}))
        return
    torch.set_num_threads(arguments.threads)
    draft, target = LocalLanguageModel(arguments.draft), LocalLanguageModel(arguments.target)
    if arguments.what == "collect":
        collect(draft, target, arguments)
    else:
        sweep(draft, target, arguments)


def collect(draft: LocalLanguageModel, target: LocalLanguageModel, arguments: argparse.Namespace) -> None:
    source = random.Random("collected")
    asked = [problem(source) for _ in range(arguments.problems)]
    scorer = create_verifier("process-reward", {"model": arguments.prm}) if arguments.prm else PocketStepVerifier()
    graph = create_arbitrage(draft, target, policy="collect", verifier=scorer, log=Kept())
    with arguments.out.open("w", encoding="utf-8") as file:
        for _, output in solved(graph, asked, arguments.workers):
            for row in collected_rows(output):
                file.write(json.dumps(row) + "\n")


def sweep(draft: LocalLanguageModel, target: LocalLanguageModel, arguments: argparse.Namespace) -> None:
    source = random.Random("chosen")
    choosing = [problem(source) for _ in range(arguments.chosen_on)]
    parts = {"chosen on": choosing, "held out": held_out_problems(arguments.problems)}
    made_by = [draft.identity, target.identity, _digest(arguments.prm), _digest(arguments.router)]
    known = done_before(arguments.raw, made_by)
    rows: dict[str, dict[tuple[str, float], list[Row]]] = {part: {} for part in parts}
    for part, asked in parts.items():
        for policy, threshold, create in settings(draft, target, arguments):
            if part == "chosen on" and policy not in CHOSEN:
                continue
            before = known.get((part, policy, threshold), {})
            if all(number in before for number in range(len(asked))):
                rows[part][policy, threshold] = [before[number] for number in range(len(asked))]
                continue
            started = time.perf_counter()
            made = [
                row_of(policy, threshold, number, one, output) | {"part": part, "made_by": made_by}
                for number, (one, output) in enumerate(solved(create(), asked, arguments.workers))
            ]
            rows[part][policy, threshold] = made
            if arguments.raw:
                with arguments.raw.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in made)
            line = {"part": part} | summary(made) | {"wall_seconds": time.perf_counter() - started}
            print(json.dumps(line), file=sys.stderr)
    origin = machine(arguments) | {"benchmark": "routing", "draft": draft.identity, "target": target.identity}
    for each in rows["held out"].values():
        print(json.dumps(origin | summary(each)))
    chosen = choose(rows["chosen on"])
    course = {"chosen_on": len(choosing), "held_out": arguments.problems, "workers": arguments.workers}
    print(json.dumps(origin | course | bars(rows["held out"], chosen)))


def _digest(place: str | None) -> str:
    """Of a file, or of all files of a folder."""
    if place is None:
        return ""
    folder = Path(place)
    files = sorted(each for each in folder.iterdir() if each.is_file()) if folder.is_dir() else [folder]
    return hashlib.sha256(b"".join(hashlib.sha256(each.read_bytes()).digest() for each in files)).hexdigest()[:12]


def settings(
    draft: LocalLanguageModel, target: LocalLanguageModel, arguments: argparse.Namespace
) -> Iterable[tuple[str, float, Callable[[], Any]]]:
    wanted = arguments.policies

    def arbitrage(policy: Any, threshold: float | None, verifier: Any = None) -> Callable[[], Any]:
        return lambda: create_arbitrage(
            draft, target, policy=policy, threshold=threshold, verifier=verifier, log=Kept()
        )

    def glimpse(threshold: float) -> Callable[[], Any]:
        return lambda: create_glimp_router(draft, target, threshold=threshold, log=Kept())

    if "alone" in wanted:
        yield "draft-only", 0.0, arbitrage("draft-only", None)
        yield "target-only", 0.0, arbitrage("target-only", None)
    if "rsd" in wanted and arguments.prm:
        prm = create_verifier("process-reward", {"model": arguments.prm})
        for threshold in RSD:
            yield "rsd", threshold, arbitrage("rsd", threshold, prm)
    if "router" in wanted and arguments.router:
        router = create_verifier("router", {"file": arguments.router})
        for threshold in ROUTER:
            yield "router", threshold, arbitrage("router", threshold, router)
    if "router" in wanted and arguments.prm_router:
        of_prm = create_verifier("router", {"file": arguments.prm_router})
        for threshold in ROUTER:
            yield "router-of-prm", threshold, arbitrage("router", threshold, of_prm)
    if "rsd" in wanted:
        yield "rsd-truth", 0.5, arbitrage("rsd", 0.5, PocketStepVerifier())
    if "oracle" in wanted:
        for threshold in ORACLE:
            yield "oracle", threshold, arbitrage("oracle", threshold, PocketStepVerifier())
    if "glimpse" in wanted:
        for threshold in GLIMPSE:
            yield "glimpse", threshold, glimpse(threshold)


def solved(graph: Any, asked: Sequence[PocketProblem], workers: int) -> Iterable[tuple[PocketProblem, Any]]:
    with ThreadPoolExecutor(workers) as pool:
        made = pool.map(lambda one: timed(graph, one), asked)
        yield from zip(asked, made, strict=True)


def timed(graph: Any, one: PocketProblem) -> Any:
    started = time.perf_counter()
    output = graph.invoke({"problem": one.text})
    return output | {"wall": time.perf_counter() - started}


def row_of(policy: str, threshold: float, number: int, asked: PocketProblem, output: Any) -> Row:
    """What became of one problem; of escalated steps, whether the target was right where the draft was not."""
    texts = [step["text"] for step in output["steps"]]
    kept = wasted = better = escalated = 0
    for place, step in enumerate(output["steps"]):
        kept += step["role"] == "draft"
        if step["role"] == "target" and step["discarded"] is not None and step["discarded"]["role"] == "draft":
            escalated += 1
            drafted = fault_of(asked, texts[:place], step["discarded"]["text"]) is None
            improved = not drafted and fault_of(asked, texts[:place], step["text"]) is None
            better += improved
            wasted += not improved
    counts = output["counts"]
    return {
        "policy": policy,
        "threshold": threshold,
        "problem": number,
        "right": answers(asked, output["text"]),
        "finish": output["finish"],
        "steps": len(texts),
        "kept": kept,
        "escalated_after_draft": escalated,
        "wasted": wasted,
        "target_tokens": counts["target_tokens"],
        "draft_tokens": counts["draft_tokens_kept"] + counts["draft_tokens_discarded"],
        "discarded_tokens": counts["draft_tokens_discarded"],
        "seconds": output["wall"],
    }


def done_before(raw: Path | None, made_by: list[str]) -> dict[tuple[str, str, float], dict[int, Row]]:
    """Rows of the same models by setting and problem; what a kill left half written is nothing."""
    known: dict[tuple[str, str, float], dict[int, Row]] = defaultdict(dict)
    if raw is not None and raw.is_file():
        whole, _, _ = raw.read_text(encoding="utf-8").rpartition("\n")
        for line in whole.splitlines():
            row = json.loads(line)
            if row["made_by"] == made_by:
                known[row["part"], row["policy"], row["threshold"]][row["problem"]] = row
    return known


def ratio(above: str, below: str) -> Callable[..., float | None]:
    def of(*columns: np.ndarray) -> float | None:
        total = float(columns[1].sum())
        return float(columns[0].sum()) / total if total else None

    return of


def summary(rows: Sequence[Row]) -> Row:
    problems = [row["problem"] for row in rows]

    def column(name: str) -> list[float]:
        return [float(row[name]) for row in rows]

    accuracy = bootstrap(lambda right: float(right.mean()), problems, column("right"))
    waste = bootstrap(ratio("wasted", "escalated"), problems, column("wasted"), column("escalated_after_draft"))
    steps, kept = sum(column("steps")), sum(column("kept"))
    return {
        "policy": rows[0]["policy"],
        "threshold": rows[0]["threshold"],
        "problems": len(rows),
        "accuracy": accuracy.value,
        "accuracy_interval": [accuracy.low, accuracy.high],
        "acceptance": kept / steps if steps else 0.0,
        "target_tokens": statistics.fmean(column("target_tokens")),
        "draft_tokens": statistics.fmean(column("draft_tokens")),
        "wasted_escalations": waste.value,
        "wasted_interval": [waste.low, waste.high],
        "seconds": statistics.fmean(column("seconds")),
        "seconds_p95": float(np.quantile(column("seconds"), 0.95)),
    }


if __name__ == "__main__":
    main()
