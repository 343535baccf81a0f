"""`draftproof verdicts`: find, read, compare, correct and export what was decided."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftproof.cli.options import Json, Limit, Store, store_url
from draftproof.errors import UnknownNameError, UsageError
from draftproof.subject import Granularity
from draftproof.verdict import Guarantee, Outcome

if TYPE_CHECKING:
    from draftproof.store.queries import VerdictFilter
    from draftproof.store.records import Difference, StoredVerdict
    from draftproof.store.verdict_store import VerdictStore

app = typer.Typer(no_args_is_help=True, help="Query, show, compare, override and export stored verdicts.")

_OTHERS_SHOWN = 5
RunOption = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Verdicts about the pairs of this run.")]
TraceOption = Annotated[str | None, typer.Option("--trace", metavar="TRACE", help="Id or digest of a trace.")]
VerifierOption = Annotated[
    str | None, typer.Option("--verifier", "-v", metavar="NAME", help="name, name@version or the whole identity.")
]
GranularityOption = Annotated[
    Granularity | None, typer.Option("--granularity", help="Verdicts about this kind of thing.")
]
OutcomeOption = Annotated[Outcome | None, typer.Option("--outcome", help="Only this outcome.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Only this machine-readable reason.")]
GuaranteeOption = Annotated[Guarantee | None, typer.Option("--guarantee", help="Only this strength.")]
SinceOption = Annotated[datetime | None, typer.Option("--since", help="Recorded at this time (UTC) or later.")]
UntilOption = Annotated[datetime | None, typer.Option("--until", help="Recorded before this time (UTC).")]
GeneratorOption = Annotated[str | None, typer.Option("--generator", help="Traces written by this model.")]
SourceOption = Annotated[str | None, typer.Option("--source", metavar="FILE", help="Traces read from this file.")]
MismatchOption = Annotated[
    bool, typer.Option("--label-mismatch", help="Steps labelled correct and rejected, or incorrect and accepted.")
]
HistoryOption = Annotated[
    bool, typer.Option("--history", help="Also verdicts that a retry or an override has replaced.")
]


@app.command("query", help="Verdicts that pass every filter given, the newest last. With --json, one object a line.")
def query(
    run: RunOption = None,
    trace: TraceOption = None,
    verifier: VerifierOption = None,
    granularity: GranularityOption = None,
    outcome: OutcomeOption = None,
    reason: ReasonOption = None,
    guarantee: GuaranteeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    generator: GeneratorOption = None,
    source: SourceOption = None,
    label_mismatch: MismatchOption = False,
    history: HistoryOption = False,
    limit: Limit = 50,
    store: Store = None,
    json_output: Json = False,
) -> None:
    from draftproof.store.export import write_jsonl
    from draftproof.store.verdict_store import VerdictStore

    where = _filter(
        run,
        trace,
        verifier,
        granularity,
        outcome,
        reason,
        guarantee,
        since,
        until,
        generator,
        source,
        label_mismatch,
        history,
    )
    with VerdictStore.open(store_url(store), create=False, read_only=True) as opened:
        rows = opened.iter_verdicts(where, limit=limit)
        if json_output:
            write_jsonl(rows, sys.stdout)
            return
        shown = _print_rows(list(rows))
        counts = opened.count_verdicts(where)
    total = sum(counts.values())
    by_outcome = ", ".join(f"{number:,} {name.value}" for name, number in counts.items() if number)
    print(f"{shown:,} of {total:,} verdicts{f' ({by_outcome})' if total else ''}", file=sys.stderr)


@app.command(
    "show",
    help="A trace step by step, coloured by outcome, with the evidence of every verdict. Of a trace that a pipeline "
    "wrote, its route: who wrote each step, what was compared to decide it, and what was discarded; each attempt with "
    "its check, each candidate with its standing. With --run, "
    "--verifier or --history, the verdicts themselves.",
)
def show(
    trace: Annotated[str, typer.Argument(metavar="TRACE", help="Id of a trace, its digest, or the start of one.")],
    run: RunOption = None,
    verifier: VerifierOption = None,
    history: HistoryOption = False,
    store: Store = None,
    json_output: Json = False,
) -> None:
    from dataclasses import replace

    from draftproof.batch.courses import openings_of
    from draftproof.cli.route_view import route_view
    from draftproof.cli.screen import out, say, visible
    from draftproof.cli.trace_view import trace_view
    from draftproof.store.queries import VerdictFilter
    from draftproof.store.verdict_store import VerdictStore

    with VerdictStore.open(store_url(store), create=False, read_only=True) as opened:
        stored = opened.get_trace(trace)
        where = VerdictFilter(run=run, trace=stored.digest, verifier=verifier, history=history)
        rows = list(opened.iter_verdicts(where, order="subject"))
        openings = openings_of(stored)
        opening = next(reversed(openings), None)
        route = None if run or verifier or history or opening is None else _route(opened, opening)
        if route is None and opening not in (None, stored.digest):
            rows += opened.iter_verdicts(replace(where, trace=opening), order="subject")
    if json_output:
        verdicts = [json.loads(row.payload) for row in rows if row.payload is not None]
        print(json.dumps({"trace": stored.trace.model_dump(mode="json"), "verdicts": verdicts, "route": route}))
        return
    if route is None:
        out().print(trace_view(stored.trace, rows))
    else:
        own = (
            rows if stored.trace.steps else ()
        )  # what others say of the finished text; an opening's rows are the route
        out().print(route_view(stored.trace, route, own))
        others = list(openings)[:-1]
        for other in others[-_OTHERS_SHOWN:]:
            say(visible(f"The same text, written by {openings[other]}: draftproof verdicts show {other[7:19]}"))
        if len(others) > _OTHERS_SHOWN:
            say(f"and by {len(others) - _OTHERS_SHOWN:,} more")


@app.command("diff", help="Where two runs (or two verifier identities, with --verifiers) disagree.")
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="Id of a run, or a verifier's identity.")],
    b: Annotated[str, typer.Argument(metavar="B")],
    verifiers: Annotated[bool, typer.Option("--verifiers", help="A and B are verifier identities.")] = False,
    limit: Limit = None,
    store: Store = None,
    json_output: Json = False,
) -> None:
    from itertools import islice

    from draftproof.store.queries import VerdictFilter
    from draftproof.store.verdict_store import VerdictStore

    with VerdictStore.open(store_url(store), create=False, read_only=True) as opened:
        for identity in (a, b) if verifiers else ():
            if not any(opened.count_verdicts(VerdictFilter(verifier=identity)).values()) or "#" not in identity:
                raise UnknownNameError(
                    f"The store holds no verdicts by {identity!r}.",
                    remedy="Give whole identities, name@version#digest, as runs show prints them.",
                )
        differences = opened.diff_verifiers(a, b) if verifiers else opened.diff(a, b)
        shown = 0
        for difference in islice(differences, limit):
            shown += 1
            name = _trace_name(opened, difference.subject.trace_digest)
            if json_output:
                subject = difference.subject.model_dump() | {"trace_id": name}
                print(json.dumps(dataclasses.asdict(difference) | {"subject": subject}))
            else:
                print(_difference_line(difference, name))
    print(f"{shown:,} differences", file=sys.stderr)


@app.command("override", help="Put a person's decision in place of a verdict. The verdict stays in the log.")
def override(
    verdict: Annotated[int, typer.Argument(metavar="ID", help="Number of the verdict, as query shows it.")],
    outcome: Annotated[Outcome, typer.Argument(help="What the person decides.")],
    author: Annotated[str, typer.Option("--author", help="Who decides.")],
    note: Annotated[str, typer.Option("--note", help="Why.")],
    store: Store = None,
) -> None:
    from draftproof.store.verdict_store import VerdictStore

    with VerdictStore.open(store_url(store), create=False) as opened:
        row = opened.override(verdict, outcome, author=author, note=note)
    print(f"verdict {row.id} now stands in place of verdict {verdict}")


@app.command("export", help="Write verdicts to a file: JSON lines, CSV or Parquet.")
def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to; - for standard output.")],
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="jsonl, csv or parquet. [default: by the file's ending]")
    ] = None,
    run: RunOption = None,
    trace: TraceOption = None,
    verifier: VerifierOption = None,
    granularity: GranularityOption = None,
    outcome: OutcomeOption = None,
    reason: ReasonOption = None,
    guarantee: GuaranteeOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    generator: GeneratorOption = None,
    source: SourceOption = None,
    label_mismatch: MismatchOption = False,
    history: HistoryOption = False,
    limit: Limit = None,
    store: Store = None,
) -> None:
    from draftproof.store.export import export_verdicts, write_csv, write_jsonl
    from draftproof.store.verdict_store import VerdictStore

    if str(output) != "-" and not output.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {output.absolute().parent} to write {output.name} to.")
    chosen = format or output.suffix.lstrip(".") or "jsonl"
    if chosen not in ("jsonl", "csv", "parquet"):
        raise UsageError(f"There is no export format {chosen!r}.", remedy="There are jsonl, csv and parquet.")
    where = _filter(
        run,
        trace,
        verifier,
        granularity,
        outcome,
        reason,
        guarantee,
        since,
        until,
        generator,
        source,
        label_mismatch,
        history,
    )
    with VerdictStore.open(store_url(store), create=False, read_only=True) as opened:
        rows = opened.iter_verdicts(where, limit=limit)
        if str(output) != "-":
            count = export_verdicts(rows, output, chosen)  # type: ignore[arg-type]  # checked above
        elif chosen == "parquet":
            raise UsageError("Parquet cannot be written to standard output.", remedy="Name a file with --output.")
        else:
            count = (write_csv if chosen == "csv" else write_jsonl)(rows, sys.stdout)
    print(f"{count:,} verdicts written to {output}", file=sys.stderr)


def _filter(
    run: str | None,
    trace: str | None,
    verifier: str | None,
    granularity: Granularity | None,
    outcome: Outcome | None,
    reason: str | None,
    guarantee: Guarantee | None,
    since: datetime | None,
    until: datetime | None,
    generator: str | None,
    source: str | None,
    label_mismatch: bool,
    history: bool,
) -> VerdictFilter:
    from draftproof.store.queries import VerdictFilter

    return VerdictFilter(
        run=run,
        trace=trace,
        verifier=verifier,
        granularity=granularity,
        outcome=outcome,
        reason=reason,
        guarantee=guarantee,
        since=since,
        until=until,
        generator=generator,
        source_file=source,
        label_mismatch=label_mismatch,
        history=history,
    )


def _route(store: VerdictStore, opening: str) -> Mapping[str, Any] | None:
    """The course that the verdicts about an opening tell of; None where they tell of none."""
    from draftproof.batch.courses import course_of
    from draftproof.errors import InputError, MissingExtraError

    try:
        return course_of(store, opening)
    except (InputError, UnknownNameError, MissingExtraError):
        return None  # not all of the verdicts are here, or an older version wrote them: they are shown one by one


def _print_rows(rows: list[StoredVerdict]) -> int:
    from rich.table import Table

    from draftproof.cli.screen import COLOURS, one_line, out, plain
    from draftproof.cli.trace_view import evidence_line

    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("id", "trace", "step", "verifier", "outcome", "reason", "evidence"):
        table.add_column(name, overflow="ellipsis", no_wrap=name != "evidence")
    for row in rows:
        evidence = row.verdict.evidence[:1] if row.payload is not None else ()
        table.add_row(
            plain(str(row.id)),
            plain(one_line(row.trace_id or row.subject.trace_digest[7:19], 32)),
            plain(str(row.subject.position)),
            plain(row.verifier.partition("#")[0]),
            plain(row.outcome.value, COLOURS[row.outcome]),
            plain(one_line(row.reason, 24), "dim"),
            evidence_line(evidence[0]) if evidence else plain(""),
        )
    if rows:
        out().print(table)
    return len(rows)


def _trace_name(store: VerdictStore, digest: str) -> str:
    """The trace's id; the start of its digest for a trace that only verdicts speak of."""
    try:
        return store.get_trace(digest).trace.id
    except UnknownNameError:
        return digest[7:19]


def _difference_line(difference: Difference, name: str) -> str:
    from draftproof.cli.screen import visible

    key = difference.subject
    sides = [
        f"{side.verifier.partition('#')[0]} {side.outcome.value} ({side.reason})" if side else "–"
        for side in (difference.a, difference.b)
    ]
    return visible(f"{name} {key.granularity.value} {key.position}: {sides[0]}  |  {sides[1]}")
