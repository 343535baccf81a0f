"""Canaries: subjects that are known to be wrong, mixed into a run to see how many of them a verifier accepts.

They stand at random places among the subjects of the run, in the same batches, and nothing tells them apart. In the
store they belong to a run of their own, whose settings name the run that they were mixed into: no count of that run,
and no query for it, has them. What they come to is kept with the run itself.

One subject of a trace is a canary: its first wrong step, or the trace where traces are judged. Later steps are of
unknown truth, and several of one trace would not be independent, as the interval wants them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from random import Random
from typing import Any

from draftproof.batch.task import Item
from draftproof.errors import UsageError
from draftproof.metrics.binomial import exact_interval
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Pair, Run, RunStatus, Skip
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity, SubjectKey
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Verdict
from draftproof.verifier import Verifier, identity

SHARE = 0.1
"""Canaries a subject while more subjects are to come; what is left of them is mixed into the last ones."""
SKIPPED = "no_canary"
_OF = "canaries_of"
_CHUNK = 500


def known_wrong(trace: Trace, granularity: Granularity) -> int | None:
    """Position of the subject of `trace` that is known to be wrong; None where nobody says so."""
    if granularity is Granularity.STEP:
        return trace.first_error
    wrong = trace.first_error is not None or trace.answer_correct is False
    return 0 if wrong and granularity is Granularity.TRACE else None


def is_of_canaries(run: Run) -> bool:
    """Whether a stored run holds another one's canaries."""
    return _OF in run.settings


def require_known_wrong(traces: Sequence[Trace], verifiers: Sequence[Verifier]) -> None:
    """Raises UsageError where a verifier would be given no canary."""
    for verifier in verifiers:
        if all(known_wrong(trace, verifier.granularity) is None for trace in traces):
            more = "" if verifier.granularity is Granularity.STEP else ", or an answer that is known to be wrong"
            raise UsageError(
                f"None of the {len(traces):,} canaries is known to be wrong by what {verifier.name} judges.",
                remedy=f"They need labels that call a step incorrect{more}.",
            )


class Canaries:
    """The canaries of one run, and the run of theirs that they are stored under."""

    def __init__(
        self,
        store: VerdictStore,
        run: Run,
        traces: Sequence[Trace],
        verifiers: Sequence[Verifier],
        *,
        retry_errors: bool,
    ) -> None:
        self._store = store
        self._retry_errors = retry_errors
        self._random = Random(run.id)  # noqa: S311 - places in a batch, not secrets
        self._unwritten: list[Verdict] = []
        self._handed_out: set[Pair] = set()
        self._verifiers = [identity(verifier) for verifier in verifiers]
        self._traces = {trace.digest: trace for trace in traces}
        self._pairs = {
            Pair(
                SubjectKey(trace_digest=digest, granularity=verifier.granularity, position=position), identity(verifier)
            )
            for digest, trace in self._traces.items()
            for verifier in verifiers
            if (position := known_wrong(trace, verifier.granularity)) is not None
        }
        files = sorted({trace.source.file for trace in traces if trace.source is not None})
        own = store.begin_run(
            f"canaries of {run.id[:8]}: {run.command}",
            verifiers=verifiers,
            settings={_OF: run.id},
            inputs=[{"name": file} for file in files],
        )
        self.run_id = own.id
        self._pending: dict[str, list[Pair]] = {verifier: [] for verifier in self._verifiers}
        self._plan(verifiers)

    def mixed(self, verifier: str, items: Sequence[Item], *, tasks_left: int | None) -> tuple[Item, ...]:
        """`items` with canaries among them. `tasks_left`: how many tasks of this verifier there will be, this one
        included; None while nobody knows."""
        pending = self._pending[verifier]
        subjects = sum(len(item.positions) for item in items)
        wanted = ceil(subjects * SHARE) if tasks_left is None else ceil(len(pending) / tasks_left)
        found = list(items)
        for pair in [pending.pop() for _ in range(min(wanted, len(pending)))]:
            self._handed_out.add(pair)
            found.insert(self._random.randint(0, len(found)), self._item(pair))
        return tuple(found)

    def alone(self, verifier: str) -> tuple[Item, ...]:
        """Canaries that nothing is left to be mixed with, as in a run whose subjects were all judged before."""
        return self.mixed(verifier, (), tasks_left=1)

    def left_to(self, fresh: Sequence[Pair]) -> list[Pair]:
        """Pairs of the run itself that it has to judge, canaries or not: those that were not handed out as canaries
        before. They are no longer handed out here."""
        for pair in self._pairs.intersection(fresh):
            if pair in self._pending[pair.verifier]:
                self._pending[pair.verifier].remove(pair)
        return [pair for pair in fresh if pair not in self._handed_out]

    def take(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Keeps the verdicts about what was handed out as a canary, and returns the others."""
        rest: list[Verdict] = []
        for verdict in verdicts:
            pair = Pair(verdict.subject, verdict.verifier, verdict.sample)
            (self._unwritten if pair in self._handed_out else rest).append(verdict)
        return rest

    def write(self) -> None:
        if self._unwritten:
            self._store.add(self._unwritten, self.run_id, retry_errors=self._retry_errors)
            self._unwritten.clear()

    def close(self, status: RunStatus) -> dict[str, Any]:
        """Ends their run; returns what they came to, for each verifier.

        Raises IntegrityError where a finished run left one of them unjudged.
        """
        self.write()
        found = self._measured()
        self._store.finish_run(self.run_id, status, counts={"traces": len(self._traces)} | found)
        return {"run": self.run_id, **found}

    def _measured(self) -> dict[str, Any]:
        outcomes: dict[str, Counter[Outcome]] = {verifier: Counter() for verifier in self._verifiers}
        for row in self._store.iter_verdicts(VerdictFilter(run=self.run_id)):
            if Pair(row.subject, row.verifier, row.sample) in self._pairs:
                outcomes[row.verifier][row.outcome] += 1
        return {"verifiers": {verifier: false_accepts(counted) for verifier, counted in outcomes.items()}}

    def _plan(self, verifiers: Sequence[Verifier]) -> None:
        """What is to be judged, in random order; everything else of the traces is noted as skipped."""
        traces = list(self._traces.values())
        for start in range(0, len(traces), _CHUNK):
            chunk = traces[start : start + _CHUNK]
            self._store.add_traces(self.run_id, chunk)
            self._store.record_skips(self.run_id, [Skip(pair, SKIPPED) for pair in self._others(chunk, verifiers)])
            for pair in self._store.missing(chunk, verifiers, retry_errors=self._retry_errors):
                if pair in self._pairs:
                    self._pending[pair.verifier].append(pair)
        for pending in self._pending.values():
            self._random.shuffle(pending)

    def _others(self, chunk: Sequence[Trace], verifiers: Sequence[Verifier]) -> Iterator[Pair]:
        for trace in chunk:
            for verifier in verifiers:
                for position in range(len(trace.steps) if verifier.granularity is Granularity.STEP else 1):
                    key = SubjectKey(trace_digest=trace.digest, granularity=verifier.granularity, position=position)
                    if (pair := Pair(key, identity(verifier))) not in self._pairs:
                        yield pair

    def _item(self, pair: Pair) -> Item:
        return Item(self._traces[pair.subject.trace_digest], (pair.subject.position,))


def false_accepts(outcomes: Mapping[Outcome, int]) -> dict[str, Any]:
    """How many known-wrong subjects were accepted, of those that were judged, with the exact 95 % interval.

    An abstention is a judgement that does not accept; an error is none.
    """
    accepted = outcomes.get(Outcome.ACCEPT, 0)
    judged = sum(count for outcome, count in outcomes.items() if outcome is not Outcome.ERROR)
    low, high = exact_interval(accepted, judged)
    return {
        "judged": judged,
        "accepted": accepted,
        "rejected": outcomes.get(Outcome.REJECT, 0),
        "abstained": outcomes.get(Outcome.ABSTAIN, 0),
        "errored": outcomes.get(Outcome.ERROR, 0),
        "false_accept_rate": accepted / judged if judged else None,
        "low": low if judged else None,
        "high": high if judged else None,
    }


def canary_lines(counts: Mapping[str, Any]) -> list[str]:
    """What a run's canaries came to, in words; nothing of a run that had none."""
    told = counts.get("canaries")
    if not isinstance(told, Mapping):
        return []
    lines = []
    for verifier, found in told["verifiers"].items():
        name = str(verifier).partition("@")[0]
        text = f"{name}: accepted {found['accepted']:,} of {found['judged']:,} canaries, which are known to be wrong"
        if found["judged"]:
            text += (
                f": false-accept rate {100 * found['false_accept_rate']:.1f} %"
                f" (95 % interval {100 * found['low']:.1f} – {100 * found['high']:.1f} %)"
            )
        more = [f"{found[each]:,} {each}" for each in ("abstained", "errored") if found[each]]
        lines.append(text + (f"; {', '.join(more)}" if more else ""))
    return lines
