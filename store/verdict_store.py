"""The verdict store: every verdict ever given, beside the traces and the runs it belongs to.

    store = VerdictStore.open("sqlite:///draftproof.db")
    run = store.begin_run("draftproof verify a.jsonl", verifiers=[verifier])
    store.add_traces(run.id, traces)
    for pair in store.missing(traces, [verifier]): ...
    run_verifier(verifier, subjects, log=store.log(run.id))
    store.finish_run(run.id)

There is no update and no delete. A verdict whose pair was judged before is counted as a duplicate
and left out, so that repeating any call, after any crash, is safe. Each call is one transaction:
when it returns, what it stored survives `kill -9`; when it raises, it stored nothing (except that
a connection lost during the commit leaves this open, and repeating the call settles it).

One store may be used from several threads. Processes open their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from sqlalchemy import Connection

from draftproof.errors import IntegrityError
from draftproof.store.attempts import attempts_of, insert_attempts, insert_skips, stream_attempts
from draftproof.store.connection import DEFAULT_URL, Database, parse_url
from draftproof.store.differences import between_runs, between_verifiers
from draftproof.store.inserts import insert_new
from draftproof.store.planner import missing_pairs
from draftproof.store.queries import Order, VerdictFilter, count_verdicts, one_verdict, resolve, stream_verdicts
from draftproof.store.records import (
    Added,
    Attempt,
    Conservation,
    Difference,
    Pair,
    PlannedVerifier,
    Run,
    RunStatus,
    Skip,
    StoredTrace,
    StoredVerdict,
    utc_now,
)
from draftproof.store.revisions import as_retries, insert_override
from draftproof.store.runs import close_run, conservation_of, find_run, insert_run, list_runs, run_number
from draftproof.store.schema import installed_version, require_compatible
from draftproof.store.tables import verdicts as verdict_table
from draftproof.store.traces import get_trace, insert_traces, store_traces, stream_run_traces
from draftproof.store.verdict_rows import COLUMNS, rows_of
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Verdict
from draftproof.verifier import Verifier

_EVERYTHING = VerdictFilter()


class VerdictStore:
    """A verdict log in SQLite or PostgreSQL. Open one with `VerdictStore.open`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._numbers: dict[str, int] = {}

    @classmethod
    def open(cls, url: str = DEFAULT_URL, *, create: bool = True, read_only: bool = False) -> VerdictStore:
        """Opens the store at `url`, a database URL or the path of a SQLite file.

        With `create`, a database without our tables gets them. A store of an older schema is never
        changed here: that is `draftproof db upgrade`.

        Raises:
            StoreUnreachableError: no file, no server, no permission, or not a database.
            SchemaMismatchError: the schema is older or newer than this version of draftproof needs.
        """
        database = Database(parse_url(url), create=create, read_only=read_only)
        try:
            with database.reading() as connection:
                installed = installed_version(connection)
            if installed is None and create and not read_only:
                from draftproof.store.migrations import upgrade_database  # Alembic is slow to import

                installed = upgrade_database(database).installed
            require_compatible(installed, database.name)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @property
    def name(self) -> str:
        """The store's URL, for people: without its password."""
        return self._database.name

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> VerdictStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Writing

    def begin_run(
        self,
        command: str,
        *,
        verifiers: Sequence[Verifier | PlannedVerifier] = (),
        settings: Mapping[str, Any] | None = None,
        inputs: Sequence[Mapping[str, Any]] = (),
    ) -> Run:
        """A new run of `command`. `verifiers` are those that will judge all of its traces.

        `settings` and `inputs` (one mapping for each file: name, size, digest) are JSON values.
        """
        planned = _planned(verifiers)
        run_id = self._database.write(lambda c: insert_run(c, command, planned, settings or {}, inputs))
        return self.run(run_id)

    def finish_run(
        self, run_id: str, status: RunStatus = RunStatus.FINISHED, *, counts: Mapping[str, Any] | None = None
    ) -> list[Conservation]:
        """Notes how the run ended and returns where its pairs went.

        Raises IntegrityError, and notes the run as failed, when a finished run has pairs that
        nothing was recorded of, or verdicts about steps that do not exist.
        """
        totals = self.conservation(run_id)
        lawful = status is not RunStatus.FINISHED or all(each.settled for each in totals)
        ending = status if lawful else RunStatus.FAILED
        self._database.write(lambda c: close_run(c, run_id, ending, counts or {}))
        if not lawful:
            broken = next(each for each in totals if not each.settled)
            raise IntegrityError(
                f"run {run_id} breaks the conservation law: of {broken.subjects} pairs of {broken.verifier},"
                f" {broken.missing} are unaccounted for and {broken.strays} verdicts are about no step.",
                remedy="Run the same command again to judge what is missing.",
            )
        return totals

    def add_traces(self, run_id: str, traces: Sequence[Trace]) -> int:
        """Appends `traces` to the run's input and stores the new ones; returns how many were new."""
        number = self._number(run_id)
        return self._database.write(lambda c: insert_traces(c, number, traces))

    def keep_traces(self, traces: Sequence[Trace]) -> int:
        """Stores traces that came out of a run, and are no input of it; returns how many were new."""
        return self._database.write(lambda c: store_traces(c, traces)[0])

    def add(
        self,
        verdicts: Sequence[Verdict],
        run_id: str,
        *,
        attempts: Sequence[Attempt] = (),
        retry_errors: bool = False,
    ) -> Added:
        """Stores verdicts, and the attempts that belong to them, in one transaction.

        An error verdict is noted as an attempt too. With `retry_errors`, a verdict about a pair
        whose current verdict is an error replaces that error; without, it counts as a duplicate.

        Raises ContractError when a verdict's `raw` is not JSON: then nothing of the batch is stored.
        """
        number = self._number(run_id)
        rows = rows_of(verdicts, number, utc_now())
        tries = [*attempts, *attempts_of(verdicts)]

        def work(connection: Connection) -> Added:
            settled = as_retries(connection, rows) if retry_errors else rows
            inserted = insert_new(connection, verdict_table, COLUMNS, settled, likely_new=True)
            return Added(inserted, len(rows) - inserted, insert_attempts(connection, number, tries))

        return self._database.write(work)

    def record_attempts(self, run_id: str, attempts: Sequence[Attempt]) -> int:
        """Notes tries that gave no verdict; returns how many were not noted before."""
        number = self._number(run_id)
        return self._database.write(lambda c: insert_attempts(c, number, attempts))

    def record_skips(self, run_id: str, skips: Sequence[Skip]) -> int:
        """Notes pairs that the run leaves unjudged on purpose; returns how many were not noted before."""
        number = self._number(run_id)
        return self._database.write(lambda c: insert_skips(c, number, skips))

    def override(
        self,
        verdict_id: int,
        outcome: Outcome,
        *,
        author: str,
        note: str,
        run_id: str | None = None,
        score: float | None = None,
    ) -> StoredVerdict:
        """A human's decision in place of a current verdict, which stays in the log.

        It belongs to the run `run_id`, or to a run of its own.
        """
        number = None if run_id is None else self._number(run_id)

        def work(connection: Connection) -> int:
            run = number
            if run is None:
                own = insert_run(connection, f"override verdict {verdict_id}", (), {}, ())
                close_run(connection, own, RunStatus.FINISHED, {})
                run = run_number(connection, own)
            return insert_override(
                connection, verdict_id, run=run, outcome=outcome, author=author, note=note, score=score
            )

        return self.verdict(self._database.write(work))

    def log(self, run_id: str, *, retry_errors: bool = False) -> RunLog:
        """A `VerdictLog` for `run_verifier` and for pipelines."""
        return RunLog(self, run_id, retry_errors=retry_errors)

    # Planning and accounting

    def missing(
        self,
        traces: Iterable[Trace | tuple[str, int]],
        verifiers: Sequence[Verifier | PlannedVerifier],
        *,
        retry_errors: bool = False,
    ) -> list[Pair]:
        """The pairs that nobody has judged yet, in the order of traces, verifiers, positions, samples.

        Traces may be given as (digest, number of steps). Ask for some hundreds of traces at a time.
        With `retry_errors`, pairs whose current verdict is an error are missing too.
        """
        sizes = [(t.digest, len(t.steps)) if isinstance(t, Trace) else t for t in traces]
        with self._database.reading() as connection:
            return missing_pairs(connection, sizes, _planned(verifiers), retry_errors=retry_errors)

    def conservation(self, run_id: str) -> list[Conservation]:
        """Where the run's pairs went, for each verifier."""
        number = self._number(run_id)
        with self._database.reading() as connection:
            return conservation_of(connection, number)

    # Reading

    def runs(self, *, limit: int | None = None) -> list[Run]:
        """All runs, or the last `limit`, the newest first."""
        with self._database.reading() as connection:
            return list(list_runs(connection, limit))

    def run(self, prefix: str) -> Run:
        """The run whose id starts with `prefix`. Raises UnknownNameError for none, UsageError for several."""
        with self._database.reading() as connection:
            return find_run(connection, prefix)

    def get_trace(self, name: str) -> StoredTrace:
        """The trace with this id, digest or start of a digest. Raises UnknownNameError or UsageError."""
        with self._database.reading() as connection:
            return get_trace(connection, name)

    def run_traces(self, run_id: str) -> Iterator[Trace]:
        """The run's input, in order, as a stream."""
        number = self._number(run_id)
        with self._database.reading() as connection:
            yield from stream_run_traces(connection, number)

    def attempts(self, run_id: str) -> Iterator[Attempt]:
        """The run's tries that gave no verdict about their subject, oldest first."""
        number = self._number(run_id)
        with self._database.reading() as connection:
            yield from stream_attempts(connection, number)

    def verdict(self, verdict_id: int) -> StoredVerdict:
        """One row of the log. Raises UnknownNameError where there is none."""
        with self._database.reading() as connection:
            return one_verdict(connection, verdict_id)

    def iter_verdicts(
        self,
        where: VerdictFilter = _EVERYTHING,
        *,
        order: Order = "oldest",
        limit: int | None = None,
        offset: int = 0,
    ) -> Iterator[StoredVerdict]:
        """The verdicts that pass `where`, as a stream of one state of the database."""
        with self._database.reading() as connection:
            yield from stream_verdicts(connection, resolve(connection, where), order=order, limit=limit, offset=offset)

    def count_verdicts(self, where: VerdictFilter = _EVERYTHING) -> dict[Outcome, int]:
        """How many verdicts pass `where`, for each outcome."""
        with self._database.reading() as connection:
            return count_verdicts(connection, resolve(connection, where))

    def diff(self, run_a: str, run_b: str) -> Iterator[Difference]:
        """Pairs on which two runs (ids, or starts of them) differ, or that only one of them judged.

        A planned verifier is compared with itself, or else with the one of the same name in the other run.
        """
        with self._database.reading() as a, self._database.reading() as b:
            yield from between_runs(a, b, find_run(a, run_a), find_run(a, run_b))

    def diff_verifiers(self, verifier_a: str, verifier_b: str) -> Iterator[Difference]:
        """Subjects that two verifier identities judged differently, or that only one judged."""
        with self._database.reading() as a, self._database.reading() as b:
            yield from between_verifiers(a, b, verifier_a, verifier_b)

    def _number(self, run_id: str) -> int:
        """The run's row number: asked once, since it never changes."""
        if run_id not in self._numbers:
            with self._database.reading() as connection:
                self._numbers[run_id] = run_number(connection, run_id)
        return self._numbers[run_id]


class RunLog:
    """A `VerdictLog` that writes to one run of a store, and counts what it did."""

    def __init__(self, store: VerdictStore, run_id: str, *, retry_errors: bool = False) -> None:
        self._store = store
        self._run_id = run_id
        self._retry_errors = retry_errors
        self.inserted = 0
        self.duplicates = 0

    def add(self, verdicts: Sequence[Verdict]) -> None:
        added = self._store.add(verdicts, self._run_id, retry_errors=self._retry_errors)
        self.inserted += added.inserted
        self.duplicates += added.duplicates


def _planned(verifiers: Sequence[Verifier | PlannedVerifier]) -> list[PlannedVerifier]:
    return [v if isinstance(v, PlannedVerifier) else PlannedVerifier.of(v) for v in verifiers]
