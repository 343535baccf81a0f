"""What `draftproof verify` ends with: counts, the conservation law, the first wrong steps, and where to look on."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from draftproof.batch.canaries import canary_lines
from draftproof.batch.run import BatchResult
from draftproof.cli.screen import out, plain, visible
from draftproof.cli.trace_view import evidence_line, marked, wrong_evidence
from draftproof.errors import DraftproofError
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Conservation, StoredVerdict
from draftproof.store.verdict_store import VerdictStore
from draftproof.trace import Trace
from draftproof.verdict import Outcome

SHOWN_TRACES = 5
SHOWN_EVIDENCE = 3


def conservation_line(total: Conservation) -> str:
    """The law, written out: subjects = accepted + rejected + abstained + errored + skipped."""
    parts = " + ".join(
        f"{getattr(total, part):,} {part}" for part in ("accepted", "rejected", "abstained", "errored", "skipped")
    )
    sign = "=" if total.settled else "≠"
    missing = f"  ({total.missing:,} missing)" if not total.settled else ""
    return f"{total.subjects:,} subjects {sign} {parts}{missing}"


def print_summary(
    store: VerdictStore, result: BatchResult, rejects: Mapping[str, int], tripped: Sequence[str], store_argument: str
) -> None:
    """The summary for people."""
    screen = out()
    progress = result.progress
    rate = progress.traces / progress.seconds if progress.seconds else 0.0
    screen.print(
        Text.assemble(
            ("Verified ", "bold"),
            f"{progress.traces:,} traces in {progress.seconds:.1f} s ({rate:,.0f} a second)",
            f": {progress.judged:,} verdicts given, {progress.known:,} known before",
        )
    )
    screen.print(_table(result.conservation))
    for total in result.conservation:
        name = total.verifier.partition("@")[0]
        screen.print(Text.assemble(plain(f"{name}: ", "bold"), conservation_line(total)), soft_wrap=True)
    for line in canary_lines(result.run.counts):
        screen.print(plain(line), soft_wrap=True)
    wrong = worst_traces(store, result.run.id, SHOWN_TRACES)
    if wrong:
        screen.print()
        screen.print(Text("First wrong steps", style="bold"))
    for trace, verdict, count in wrong:
        _print_wrong_step(trace, verdict, count)
    for path, count in rejects.items():
        screen.print(plain(f"{count:,} lines could not be read; they and the reasons are in {path}", "yellow"))
    for line in tripped:
        screen.print(plain(f"gate met: {line}", "bold red"))
    screen.print()
    screen.print(Text("Look further", style="bold"))
    if wrong:
        screen.print(plain(f"  draftproof verdicts show {wrong[0][0].digest[7:19]}{store_argument}"), soft_wrap=True)
        screen.print(
            plain(f"  draftproof verdicts query --run {result.run.id[:8]} --outcome reject{store_argument}"),
            soft_wrap=True,
        )
    labelled = any(trace.step_labels for trace in islice(store.run_traces(result.run.id), 200))
    against = " --against-labels" if labelled else ""
    screen.print(plain(f"  draftproof runs show {result.run.id[:8]}{against}{store_argument}"), soft_wrap=True)


def worst_traces(store: VerdictStore, run_id: str, most: int) -> list[tuple[Trace, StoredVerdict, int]]:
    """Traces with the most rejected steps: each with its first rejection and how many steps were rejected."""
    first: dict[str, StoredVerdict] = {}
    steps: Counter[str] = Counter()
    seen: set[tuple[str, int]] = set()
    for verdict in store.iter_verdicts(VerdictFilter(run=run_id, outcome=Outcome.REJECT), order="subject"):
        key = (verdict.subject.trace_digest, verdict.subject.position)
        if key not in seen:
            seen.add(key)
            steps[key[0]] += 1
        known = first.get(key[0])
        if known is None or verdict.subject.position < known.subject.position:
            first[key[0]] = verdict
    ranked = sorted(steps.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return [(store.get_trace(digest).trace, first[digest], count) for digest, count in ranked]


def print_json(
    store: VerdictStore, result: BatchResult, rejects: Mapping[str, int], tripped: Sequence[str], store_argument: str
) -> None:
    """The summary for machines: one object."""
    more = {
        "rejects": dict(rejects),
        "gates_met": list(tripped),
        "store": store.name,
        "first_wrong_steps": [_wrong_step_json(*found) for found in worst_traces(store, result.run.id, SHOWN_TRACES)],
    }
    if "canaries" in result.run.counts:
        more["canaries"] = result.run.counts["canaries"]
    print(json.dumps(as_json(result) | more))


def _wrong_step_json(trace: Trace, verdict: StoredVerdict, count: int) -> dict[str, Any]:
    return {
        "trace": trace.id,
        "trace_digest": trace.digest,
        "position": verdict.subject.position,
        "verifier": verdict.verifier,
        "rejected_steps": count,
        "evidence": [evidence.model_dump(mode="json") for evidence in wrong_evidence(verdict)[:SHOWN_EVIDENCE]],
    }


def as_json(result: BatchResult) -> dict[str, Any]:
    progress = result.progress
    return {
        "run": result.run.id,
        "status": result.run.status.value,
        "traces": progress.traces,
        "judged": progress.judged,
        "known": progress.known,
        "seconds": round(progress.seconds, 3),
        "worker_restarts": progress.restarts,
        "verifiers": [conservation_json(total) for total in result.conservation],
    }


def conservation_json(total: Conservation) -> dict[str, Any]:
    return dataclasses.asdict(total) | {"missing": total.missing, "settled": total.settled}


def _table(totals: Sequence[Conservation]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("verifier", "accepted", "rejected", "abstained", "errored", "skipped"):
        table.add_column(name, justify="left" if name == "verifier" else "right")
    for total in totals:
        table.add_row(
            plain(total.verifier.partition("#")[0], "bold"),
            Text(f"{total.accepted:,}", style="green"),
            Text(f"{total.rejected:,}", style="red" if total.rejected else ""),
            Text(f"{total.abstained:,}", style="dim"),
            Text(f"{total.errored:,}", style="yellow" if total.errored else "dim"),
            Text(f"{total.skipped:,}", style="dim"),
        )
    return table


def _print_wrong_step(trace: Trace, verdict: StoredVerdict, count: int) -> None:
    screen = out()
    position = verdict.subject.position
    wrong = wrong_evidence(verdict)
    more = f" (and {count - 1} more)" if count > 1 else ""
    name = visible(trace.id)
    screen.print()
    screen.print(Text.assemble((f"✗ {name}", "bold red"), f"  step {position}{more}  ", plain(verdict.reason, "dim")))
    if position >= len(trace.steps):
        raise DraftproofError(f"verdict {verdict.id} is about step {position} of a trace that has {len(trace.steps)}")
    screen.print(Padding(marked(trace.steps[position].text, wrong), (0, 0, 0, 4)))
    for evidence in wrong[:SHOWN_EVIDENCE]:
        screen.print(Padding(Text("→ ") + evidence_line(evidence), (0, 0, 0, 4)))
