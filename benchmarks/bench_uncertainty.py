"""An uncertainty head on the pocket target beside what needs no training, and beside a process reward model.

    python benchmarks/bench_uncertainty.py --head HEAD --prm PRM > benchmarks/results/uncertainty.jsonl

The model writes solutions of held-out problems step by step, at the temperature that the head was trained with. Every
step up to a solution's first wrong one is judged by all: by the head while it is written (online) and from the text
(reader), by the four figures of the distributions, by the model's own word (P(True)), and by the reward model. Truth
is the problems' own plan. Told are PR-AUC of the wrong steps with intervals over problems, the head's lead over the
best of the four and over the reward model in the same resamples, parameters, and what the head adds to writing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from bench_decode import machine
from safetensors import safe_open

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.pocket.evaluation import held_out_problems
from draftproof.drafting.pocket.problems import SEPARATOR, PocketProblem
from draftproof.drafting.pocket.truth import step_labels
from draftproof.language_model import GREEDY, Completion, Context, Decoding, Piece, Request, StopCause
from draftproof.metrics.bootstrap import paired_difference
from draftproof.metrics.classification import wrong_pr_auc
from draftproof.registry import create_verifier
from draftproof.subject import Subject, step_subjects
from draftproof.trace import Step, StepLabel, Trace
from draftproof.verifiers.uncertainty_head.evaluation import measure
from draftproof.verifiers.uncertainty_head.verifier import UncertaintyHeadVerifier

LONGEST_STEP, MOST_STEPS, TOGETHER = 64, 24, 32
BASELINES = ("mean-logprob", "perplexity", "token-entropy", "p-true")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default="pocket-target", help="the model that the head belongs to")
    parser.add_argument("--head", help="folder of `draftproof train uncertainty-head --model pocket-target`")
    parser.add_argument("--prm", help="folder of `draftproof train process-reward --base pocket-target`")
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--timed", type=int, default=64, help="problems that writing is timed with; 0 times nothing")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    if not arguments.head or not arguments.prm:
        print(json.dumps({"benchmark": "uncertainty", "not_run": "no --head and --prm, which are trained first"}))
        return
    torch.set_num_threads(arguments.threads)
    model = LocalLanguageModel(arguments.target)
    online = UncertaintyHeadVerifier(arguments.head)
    asked = held_out_problems(arguments.problems)
    decoding = Decoding(temperature=arguments.temperature, top_p=0.95)
    traces, told = written(model, asked, decoding, online)
    judged = [
        (number, subject, label is StepLabel.INCORRECT)
        for number, (one, trace) in enumerate(zip(asked, traces, strict=True))
        for subject, label in zip(step_subjects(trace), step_labels(one, [s.text for s in trace.steps]), strict=True)
        if label is not StepLabel.UNKNOWN
    ]
    subjects = [subject for _, subject, _ in judged]
    scores: dict[str, list[float | None]] = {
        "uncertainty-head online": [told[number][subject.key.position] for number, subject, _ in judged],
        "uncertainty-head reader": of(UncertaintyHeadVerifier(arguments.head, arguments.target), subjects),
        "process-reward": of(create_verifier("process-reward", {"model": arguments.prm}), subjects),
    }
    for name in BASELINES:
        scores[name] = of(create_verifier(name, {"model": arguments.target}), subjects)
    origin = machine(arguments) | {"benchmark": "uncertainty", "temperature": arguments.temperature}
    for line in [*figures(judged, scores), sizes(arguments), *latencies(model, online, asked[: arguments.timed])]:
        print(json.dumps(origin | line))
        print(json.dumps(line), file=sys.stderr)


def written(
    model: LocalLanguageModel,
    asked: Sequence[PocketProblem],
    decoding: Decoding,
    online: UncertaintyHeadVerifier | None,
    together: int = TOGETHER,
) -> tuple[list[Trace], list[list[float | None]]]:
    """A solution of each problem, written step by step, and the head's score of each step as it was written."""
    traces: list[Trace] = []
    scores: list[list[float | None]] = []
    for first in range(0, len(asked), together):
        some = asked[first : first + together]
        pieces: list[list[Piece]] = [[] for _ in some]
        said: list[list[float | None]] = [[] for _ in some]
        live = list(range(len(some)))
        while live:
            requests = [
                Request(
                    Context.of(some[index].text, tuple(pieces[index])),
                    LONGEST_STEP,
                    (SEPARATOR,),
                    Decoding(decoding.temperature, decoding.top_k, decoding.top_p, seed=first + index),
                    hidden_layers=() if online is None else online.needs_layers,
                )
                for index in live
            ]
            going = []
            for index, completion in zip(live, model.generate(requests), strict=True):
                pieces[index].append(Piece(completion.text, model.identity, completion.ids))
                if online is not None:
                    said[index].append(score_of(online, some[index].text, pieces[index], completion, model.identity))
                if completion.cause is StopCause.STOP and len(pieces[index]) < MOST_STEPS:
                    going.append(index)
            live = going
        traces += [trace_of(one.text, each) for one, each in zip(some, pieces, strict=True)]
        scores += said
    return traces, scores


def score_of(
    online: UncertaintyHeadVerifier, problem: str, pieces: Sequence[Piece], completion: Completion, writer: str
) -> float | None:
    subject = list(step_subjects(trace_of(problem, pieces)))[-1]
    online.offer(subject.key, completion, writer=writer)
    return online.check([subject])[0].score


def trace_of(problem: str, pieces: Sequence[Piece]) -> Trace:
    steps = tuple(Step(text=piece.text) for piece in pieces)
    return Trace(problem=problem, steps=steps, segmentation="written_steps@1")


def of(verifier: Any, subjects: Sequence[Subject]) -> list[float | None]:
    found: list[float | None] = []
    for begin in range(0, len(subjects), 256):
        found += [verdict.score for verdict in verifier.check(subjects[begin : begin + 256])]
    return found


def figures(judged: Sequence[tuple[int, Subject, bool]], scores: dict[str, list[float | None]]) -> list[dict[str, Any]]:
    """On the steps that all gave a score to; who gave none to any is told with that, and compared with nobody."""
    silent = [name for name, each in scores.items() if all(score is None for score in each)]
    scores = {name: each for name, each in scores.items() if name not in silent}
    kept = [place for place in range(len(judged)) if all(each[place] is not None for each in scores.values())]
    wrong = torch.tensor([judged[place][2] for place in kept])
    problems = [str(judged[place][0]) for place in kept]
    columns = {name: np.array([float(each[place] or 0.0) for place in kept]) for name, each in scores.items()}
    rows = [measure(name, wrong, torch.tensor(each), problems) for name, each in columns.items()]
    lines: list[dict[str, Any]] = [{"silent": name, "without_score": len(judged)} for name in silent]
    lines += [asdict(row) | {"without_score": sum(score is None for score in scores[row.name])} for row in rows]
    best = max((row for row in rows if row.name in BASELINES), key=lambda row: row.pr_auc or 0.0).name
    truth = (~wrong).numpy()
    for head in ("uncertainty-head online", "uncertainty-head reader"):
        for other in (best, "process-reward"):
            lead = paired_difference(
                lambda t, s: wrong_pr_auc(t, s)[0], problems, [truth, columns[other]], [truth, columns[head]],
                resamples=300,
            )  # fmt: skip
            lines.append({"lead_of": head, "over": other, "pr_auc": lead.value, "interval": [lead.low, lead.high]})
    apart = [
        abs(a - b) for a, b in zip(columns["uncertainty-head online"], columns["uncertainty-head reader"], strict=True)
    ]
    lines.append({"online_and_reader_apart_at_most": float(max(apart)), "steps": len(kept)})
    return lines


def sizes(arguments: argparse.Namespace) -> dict[str, Any]:
    head, prm = (parameters(Path(place)) for place in (arguments.head, arguments.prm))
    return {"head_parameters": head, "prm_parameters": prm, "share": head / prm}


def parameters(folder: Path) -> int:
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(str(file), framework="pt") as opened:
            total += sum(opened.get_tensor(name).numel() for name in opened.keys())  # noqa: SIM118 (not a dict)
    return total


def latencies(
    model: LocalLanguageModel, online: UncertaintyHeadVerifier, asked: Sequence[PocketProblem], repeats: int = 5
) -> list[dict[str, Any]]:
    """Writing alone, and writing with the head told and asked after each step, in turns."""
    lines: list[dict[str, Any]] = []
    if not asked:
        return lines
    for decoding in (GREEDY, Decoding(1.0, top_p=0.95)):
        for together in (1, 8):
            times: dict[str, list[float]] = {"alone": [], "with_head": []}
            for _ in range(repeats + 1):
                for name, verifier in (("alone", None), ("with_head", online)):
                    model.forget()
                    started = time.perf_counter()
                    written(model, asked, decoding, verifier, together)
                    times[name].append(time.perf_counter() - started)
            alone, judged = (statistics.median(each[1:]) for each in times.values())
            lines.append(
                {
                    "latency": "greedy" if decoding.temperature == 0 else "sampled",
                    "together": together,
                    "problems": len(asked),
                    "seconds": times,
                    "added": judged / alone - 1.0,
                }
            )
    return lines


if __name__ == "__main__":
    main()
