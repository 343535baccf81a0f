"""The log of a pipeline run: verdicts are stored before the graph goes on, and two courses of a problem never mix.

A problem that was begun before writes the same verdicts under the same keys again, which the store drops as duplicates.
That is only right while they say the same. A server that was down the first time, a model that is less deterministic
than it claims: then the stored verdicts tell a course that this one is not, and it must not go on under their keys.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from draftproof.store.queries import VerdictFilter
from draftproof.store.verdict_store import VerdictStore
from draftproof.verdict import Verdict

_RELATIVE, _ABSOLUTE = 1e-4, 1e-6
"""How far numbers of the same course may differ: passes in other company round otherwise."""

_Key = tuple[str, int, str, int]


class Diverged(Exception):
    """A course began as an earlier one of its key, and says something else now. What is stored stays as it is."""


class Stopped(Exception):
    """The run is ending: no further verdict is taken."""


class RouteLog:
    """A `VerdictLog` for the graphs of one run, which many threads use. Each call is one transaction."""

    def __init__(self, store: VerdictStore, ending: Callable[[], bool]) -> None:
        self._store, self._ending = store, ending
        self.run_id = ""
        """Set once the run has begun: whoever makes the graph needs the log before."""
        self._earlier: dict[str, dict[_Key, Verdict]] = {}
        """Opening -> what is stored of it, while it is gone through again."""
        self._counting = threading.Lock()
        self.inserted = 0
        self.duplicates = 0

    @contextmanager
    def course(self, opening: str, *, begun_before: bool) -> Iterator[None]:
        """Within, the verdicts about `opening` are held to those that are stored of it."""
        if begun_before:
            rows = self._store.iter_verdicts(VerdictFilter(trace=opening))
            self._earlier[opening] = {_key(row.verdict): row.verdict for row in rows if row.payload is not None}
        try:
            yield
        finally:
            self._earlier.pop(opening, None)

    def add(self, verdicts: Sequence[Verdict]) -> None:
        """Raises Diverged, before anything is stored, for a verdict that contradicts what is stored under its key."""
        if self._ending():
            raise Stopped
        for verdict in verdicts:
            stored = self._earlier.get(verdict.subject.trace_digest, {}).get(_key(verdict))
            if stored is not None and not same_judgement(stored, verdict):
                raise Diverged(
                    f"{verdict.verifier} about {verdict.subject}: {stored.reason} then, {verdict.reason} now"
                )
        added = self._store.add(verdicts, self.run_id)
        with self._counting:
            self.inserted += added.inserted
            self.duplicates += added.duplicates


def same_judgement(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts of one key say the same, whatever they cost and however their numbers were rounded."""
    left, right = (each.model_dump(mode="json", exclude={"cost", "raw"}) for each in (one, other))
    return _alike(left, right)


def _alike(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_alike(value, right[name]) for name, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_alike, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return bool(left == right)


def _key(verdict: Verdict) -> _Key:
    subject = verdict.subject
    return subject.granularity.value, subject.position, verdict.verifier, verdict.sample
