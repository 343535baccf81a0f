"""Writes benchmarks/README.md, and the figures in the README, from the results: none is typed by hand.

    python benchmarks/make_readme.py

Reads benchmarks/results/*.jsonl, as `make bench` leaves them. A result that is not there leaves its
section out. With `--check`, writes nothing and exits with 1 when a page is not what it would write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from readme_documents import grounding, retrieval
from readme_engine import acceptance, compiled_kernels, decode, forward, heads, overheads, policies, rules
from readme_steps import PICTURE, routing, routing_picture, step_loop, uncertainty
from readme_table import Line, table

FOLDER = Path(__file__).resolve().parent

OPENS, CLOSES = "<!-- figures: written by benchmarks/make_readme.py -->", "<!-- /figures -->"

IN_SAMPLE = (
    "**These are in-sample figures**: the reader's rules were written while looking at false alarms in these very "
    "solutions (ProcessBench, GSM8K, multistep arithmetic), no part kept aside. Expect more false alarms elsewhere."
)

TRAINED = ("routing", "uncertainty")
"""Measured with what was trained first; a plain `make bench` leaves them out."""

HEAD = """# Benchmarks

`make bench` runs every `bench_*.py` here and keeps its JSON lines in `results/`; `python benchmarks/make_readme.py`
writes this page from them. Speeds are of one machine at one time: read the ratios, each to a peer measured in the
same run. Tests assert no timing. What needs public data sets reads
them from the folder that `DRAFTPROOF_DATA` names, else from `data/` in the checkout, and is left out without them.
"""


def main() -> None:
    readme = FOLDER.parent / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(OPENS)
    after = rest.split(CLOSES)[1]
    pages = {
        FOLDER / "README.md": "\n".join(write()),
        readme: before + OPENS + "\n" + "\n".join(figures()) + "\n" + CLOSES + after,
    }
    if measured("routing"):
        pages[PICTURE] = routing_picture(results("routing"))
    if "--check" in sys.argv[1:]:
        stale = [page for page, text in pages.items() if page.read_text(encoding="utf-8") != text]
        sys.exit(f"not what benchmarks/make_readme.py writes: {', '.join(map(str, stale))}" if stale else 0)
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")


def figures() -> Iterator[str]:
    """The few figures that the README shows, with their peers."""
    cold = [line for line in results("lean") if line.get("measurement") == "cold"]
    if cold:
        best = max(cold, key=lambda line: line["claims_per_second"])
        yield (
            f"- **{best['claims_per_second']:,.0f} claims a second** settled by the Lean kernel on {best['workers']} "
            f"processes, nothing cached: {best['times_straightforward']:.1f} times one `by decide` theorem a claim."
        )
    measures = {
        line["judge"]: line["measures"] for line in results("accuracy") if line["set"] == "processbench (all four)"
    }
    if measures:
        ours, naive = measures["arithmetic"], measures["naive regex"]
        yield (
            f"- **ProcessBench**: of the solutions that people marked right, "
            f"{percent(ours, 'correct_trace_rejected')} get a step rejected (a naive regular expression: "
            f"{percent(naive, 'correct_trace_rejected')}). A rejection at or before the first wrong step hits it "
            f"in {percent(ours, 'early_rejection_is_marked')} (naive: {percent(naive, 'early_rejection_is_marked')}). "
            f"The marked step is rejected in {percent(ours, 'marked_step_rejected')} of the erroneous ones (naive: "
            f"{percent(naive, 'marked_step_rejected')}): most errors there are not arithmetic. {IN_SAMPLE}"
        )
    decoded = {
        (line["peer"], line["category"]): line for line in results("decode") if line.get("measurement") == "category"
    }
    if decoded:
        overall, copies = (decoded["draftproof suffix cost", name] for name in ("spec-bench", "copy"))
        rival = decoded.get(("llama.cpp as quantised", "spec-bench"))
        yield (
            f"- **{overall['times_generate']:.1f} times as fast as transformers' `generate`** over Spec-Bench, "
            f"{copies['times_generate']:.1f} times where text is copied, token for token the same text: "
            f"{overall['tokens_per_second']:.0f} tokens a second of {overall['target']} on {overall['threads']} "
            "processor cores"
            + (f", llama.cpp with the four-bit file {rival['tokens_per_second']:.0f}" if rival else "")
            + ". The checkpoint's weights come from that file and are read in as few bits, each number exactly as it "
            "is in float32; a checkpoint that needs 32 bits gains less."
        )
    for line in results("store"):
        if line["measure"] == "ingest":
            yield (
                f"- **{line['median']:,} verdicts a second** into {line['database']}, {line['ratio']:.2f} of "
                f"`{line['peer']}` with the rows ready made."
            )
    for line in results("batch"):
        if line["case"] == "arithmetic and lean, cold":
            yield (
                f"- **{line['traces_per_second']:,.0f} traces a second** from file to committed verdict, "
                f"both verifiers, on {line['workers']} processors."
            )


def percent(measures: dict[str, Line], name: str) -> str:
    return f"{100 * measures[name]['value']:.1f} %"


def write() -> Iterator[str]:
    yield HEAD
    sections = (
        ("lean", lean),
        ("accuracy", accuracy),
        ("batch", batch),
        ("store", store),
        ("forward", forward),
        ("decode", decode),
        ("policies", policies),
        ("heads", heads),
        ("acceptance", acceptance),
        ("rules", rules),
        ("overheads", overheads),
        ("routing", routing),
        ("step_loop", step_loop),
        ("uncertainty", uncertainty),
        ("retrieval", retrieval),
        ("grounding", grounding),
        ("kernels_sm90", compiled_kernels),
    )
    for name, section in sections:
        lines = results(name)
        if lines and (name not in TRAINED or measured(name)):
            yield from section(lines)
            yield ""
    unmeasured = [
        name
        for name in ("forward", "decode", "policies", "heads", "rules", "overheads", "kernels", *TRAINED)
        if not measured(name)
    ]
    if unmeasured:
        scripts = ", ".join(f"`bench_{name}.py`" for name in unmeasured)
        yield f"Not measured yet, or not on this machine: {scripts}. Nothing is claimed about what they would show."


def measured(name: str) -> bool:
    return any("not_run" not in line for line in results(name))


def results(name: str) -> list[Line]:
    file = FOLDER / "results" / f"{name}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def lean(lines: list[Line]) -> Iterator[str]:
    yield "## Claims settled by the Lean kernel (`bench_lean.py`)\n"
    yield "Distinct claims of the kinds that solutions state; the peer is one theorem a claim, closed by `decide`.\n"
    rows = []
    for line in lines:
        if "claims_per_second" not in line or line["measurement"] == "print the statements":
            continue
        ratio = line.get("times_straightforward")
        rows.append(
            (
                line["measurement"],
                line.get("workers", ""),
                f"{line['claims']:,}",
                f"{line['claims_per_second']:,.0f}",
                "" if ratio is None else f"{ratio:.1f}",
            )
        )
    yield from table(("route", "processes", "claims", "claims/s", "ratio to the peer"), rows)
    memory = next((line for line in lines if line["measurement"] == "peak memory"), None)
    if memory:
        yield f"\nThe largest kernel process took {memory['largest_child_megabytes']} MB."


def accuracy(lines: list[Line]) -> Iterator[str]:
    yield "## Agreement with people's step labels (`bench_accuracy.py`)\n"
    yield (
        "*Marked step rejected*: of the solutions with an error, those whose first wrong step is rejected. "
        "*False alarms*: of the solutions labelled right, those with any step rejected. *Early rejection hits*: of "
        "the rejections at or before the first wrong step, those of that step. *First error found*: the first "
        "rejected step is the first wrong one. The naive peer computes every `a op b = c` that a regular expression "
        "finds; it is one such expression, and a better one may raise fewer alarms.\n"
    )
    yield IN_SAMPLE + "\n"
    rows = []
    for line in lines:
        measures = line.get("measures")
        if not measures or line["judge"] == "any verifier":
            continue
        names = ("marked_step_rejected", "correct_trace_rejected", "early_rejection_is_marked", "error_accuracy")
        rows.append((line["set"], line["judge"], *(share(measures[name]) for name in names)))
    yield from table(
        ("set", "judge", "marked step rejected", "false alarms", "early rejection hits", "first error found"), rows
    )
    yield "\nSolutions with a rejected step, by whether the final answer is right (GSM8K model solutions):\n"
    rows = [
        (line["judge"], *(f"{cell['rejected']} of {cell['of']}" for cell in line["rejected_by_final_answer"].values()))
        for line in lines
        if line["set"] == "gsm8k/example_model_solutions" and line["judge"] != "any verifier"
    ]
    yield from table(("judge", "right answer", "wrong answer"), rows)


def batch(lines: list[Line]) -> Iterator[str]:
    yield "## From file to committed verdict (`bench_batch.py`)\n"
    rows = [
        (line["case"], f"{line['traces_per_second']:,.0f}", f"{line['ratio']:.2f}" if line.get("ratio") else "")
        for line in lines
        if "traces_per_second" in line
    ]
    yield from table(("case", "traces/s", "ratio to the peer"), rows)


def store(lines: list[Line]) -> Iterator[str]:
    yield "## The verdict store (`bench_store.py`)\n"
    rows = [
        (
            line["database"],
            line["measure"],
            f"{line['median']:,}",
            line["unit"],
            f"{line['peer']}: {line['peer_median']:,}" if "peer" in line else "",
            f"{line['ratio']:.2f}" if "ratio" in line else "",
        )
        for line in lines
    ]
    yield from table(("database", "measure", "median", "unit", "peer", "ratio"), rows)


def share(measure: Line) -> str:
    if measure["value"] is None:
        return "–"
    interval = "" if measure["low"] is None else f" [{100 * measure['low']:.1f}, {100 * measure['high']:.1f}]"
    return f"{100 * measure['value']:.1f} %{interval} ({measure['hits']}/{measure['of']})"


if __name__ == "__main__":
    main()
