"""How the exact verifiers' rejections agree with people's step labels, beside a naive regular expression.

    python benchmarks/bench_accuracy.py [--data FOLDER] [--verifiers arithmetic,lean] > results/accuracy.jsonl

One JSON line for each data set and judge. Judges are the verifiers, "any verifier", and the naive
peer: a regular expression that finds `a op b op c = d` and computes it, as most quick checkers do.
Data sets: ProcessBench (four parts), BIG-Bench-Mistake's multistep arithmetic, MR-GSM8K (wrong
solutions only) and GSM8K's model solutions, which carry `is_correct` and no step labels.

They are read from `--data`, else from the folder that the variable DRAFTPROOF_DATA names, else from `data/` in the
checkout, each where `SETS` says.

Multistep arithmetic is reported twice: on all rows, and on those whose label agrees with their own
final answer. A solution labelled free of mistakes that ends in a wrong answer contradicts itself,
and so does one labelled mistaken that ends in the right one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from draftproof.batch.metrics import Measure, count, measure
from draftproof.batch.run import verify_batch
from draftproof.importers.reading import read_traces
from draftproof.registry import create_verifier
from draftproof.store.queries import VerdictFilter
from draftproof.store.runs import git_commit
from draftproof.store.verdict_store import VerdictStore
from draftproof.trace import Trace
from draftproof.verdict import Outcome

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("DRAFTPROOF_DATA") or ROOT / "data")

SETS = {
    "processbench/gsm8k": "processbench/gsm8k.jsonl.gz",
    "processbench/math": "processbench/math.jsonl.gz",
    "processbench/olympiadbench": "processbench/olympiadbench.jsonl.gz",
    "processbench/omnimath": "processbench/omnimath.jsonl.gz",
    "big_bench_mistake/multistep_arithmetic": "big_bench_mistake/multistep_arithmetic.jsonl.gz",
    "mr_gsm8k/items": "mr_gsm8k/items.jsonl.gz",
    "gsm8k/example_model_solutions": "gsm8k/example_model_solutions.jsonl.gz",
}

Rejections = dict[str, set[int]]
"""Positions of rejected steps by trace digest."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Agreement with step labels; JSON lines on stdout.")
    parser.add_argument("--data", type=Path, default=DATA, metavar="FOLDER")
    parser.add_argument("--verifiers", default="arithmetic,lean")
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}: nothing measured (DRAFTPROOF_DATA names the data sets)", file=sys.stderr)
        return
    names = options.verifiers.split(",")
    everything: dict[str, list[tuple[Trace, dict[str, set[int]]]]] = {}
    for name, file in SETS.items():
        judged = list(judge(options.data / file, names))
        for line in report(name, judged):
            print(json.dumps(line | facts()), flush=True)
        if name.startswith("processbench/"):
            everything.setdefault("processbench (all four)", []).extend(judged)
    for name, judged in everything.items():
        for line in report(name, judged):
            print(json.dumps(line | facts()), flush=True)


def judge(file: Path, names: list[str]) -> Iterator[tuple[Trace, dict[str, set[int]]]]:
    """Each trace of a file with the steps that each judge rejects."""
    traces = list(read_traces(file))
    rejected: dict[str, Rejections] = {name: {} for name in [*names, "any verifier"]}
    with tempfile.TemporaryDirectory() as folder, VerdictStore.open(f"{folder}/verdicts.db") as store:
        result = verify_batch(traces, [create_verifier(name) for name in names], store, command="bench_accuracy")
        for verdict in store.iter_verdicts(VerdictFilter(run=result.run.id, outcome=Outcome.REJECT)):
            for name in (verdict.verifier.partition("@")[0], "any verifier"):
                rejected[name].setdefault(verdict.subject.trace_digest, set()).add(verdict.subject.position)
    for trace in traces:
        steps = {name: found.get(trace.digest, set()) for name, found in rejected.items()}
        steps["naive regex"] = {i for i, step in enumerate(trace.steps) if naive_false(step.text)}
        yield trace, steps


def report(name: str, judged: list[tuple[Trace, dict[str, set[int]]]]) -> Iterator[dict[str, Any]]:
    views: dict[str, Callable[[Trace], bool]] = {name: lambda trace: True}
    if "multistep_arithmetic" in name:
        views[f"{name} (label agrees with the answer)"] = label_agrees_with_answer
    for view, keep in views.items():
        kept = [(trace, steps) for trace, steps in judged if keep(trace)]
        for who in kept[0][1]:
            labelled = [(t.problem, c) for t, steps in kept if (c := count(t, steps[who])) is not None]
            line: dict[str, Any] = {"benchmark": "accuracy", "set": view, "judge": who, "traces": len(kept)}
            if labelled:
                line["measures"] = {m.name: shown(m) for m in measure(labelled)}
            yield line | against_answers(kept, who)


def label_agrees_with_answer(trace: Trace) -> bool:
    return (trace.first_error is None) == (trace.final_answer == trace.reference_answer)


def against_answers(kept: Iterable[tuple[Trace, dict[str, set[int]]]], who: str) -> dict[str, Any]:
    """Traces with a rejected step, by whether the final answer is right."""
    table = {"right": [0, 0], "wrong": [0, 0]}
    for trace, steps in kept:
        if trace.answer_correct is not None:
            cell = table["right" if trace.answer_correct else "wrong"]
            cell[0] += bool(steps[who])
            cell[1] += 1
    return {"rejected_by_final_answer": {key: {"rejected": r, "of": n} for key, (r, n) in table.items() if n}}


def shown(m: Measure) -> dict[str, Any]:
    rounded = {
        key: None if v is None else round(v, 4) for key, v in (("value", m.value), ("low", m.low), ("high", m.high))
    }
    return rounded | {"hits": m.hits, "of": m.of}


_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_SIGN = r"[-+*/×÷]|\\times|\\cdot|\\div"
_EQUATION = re.compile(rf"({_NUMBER}(?:\s*(?:{_SIGN})\s*{_NUMBER})+)\s*=\s*\\?\$?\s*({_NUMBER})")
_TOKEN = re.compile(rf"\d+(?:\.\d+)?|{_SIGN}")
_AS_SIGN = {"×": "*", "÷": "/", "\\times": "*", "\\cdot": "*", "\\div": "/"}


def naive_false(text: str) -> bool:
    """The peer: whether some `a op b = c` in the text is off by more than a hundredth."""
    for match in _EQUATION.finditer(text):
        value = _computed(match[1].replace(",", ""))
        if value is not None and abs(value - Fraction(match[2].replace(",", ""))) > Fraction(1, 100):
            return True
    return False


def _computed(text: str) -> Fraction | None:
    tokens = _TOKEN.findall(text)
    terms = [Fraction(tokens[0])]
    for sign, number in zip(tokens[1::2], tokens[2::2], strict=False):
        operand = Fraction(number)
        match _AS_SIGN.get(sign, sign):
            case "*":
                terms[-1] *= operand
            case "/":
                if not operand:
                    return None
                terms[-1] /= operand
            case "+":
                terms.append(operand)
            case _:
                terms.append(-operand)
    return sum(terms, Fraction(0))


def facts() -> dict[str, Any]:
    return {"commit": git_commit(ROOT), "python": platform.python_version()}


if __name__ == "__main__":
    main()
