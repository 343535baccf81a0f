"""How the steps of a run were decided, by reason: a run in which nobody could judge anything must not look healthy.

Where a verifier abstains or fails, the target writes. In the text that looks like a draft that was judged and found
bad; only the verdicts tell the two apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from draftproof.store.queries import VerdictFilter
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity
from draftproof.verdict import Outcome, RouteEvidence, StepEvidence, Verdict

_HANDED_OVER = "final-answer@"
_WHOLE_SOLUTIONS = "verify"
"""The policy of routes that are about a solution as a whole, not about a step."""
_UNJUDGED = (Outcome.ABSTAIN, Outcome.ERROR)


@dataclass(frozen=True)
class RouteCounts:
    """Sums over steps that somebody had to decide about."""

    reasons: Counter[str] = field(default_factory=Counter)
    """Of the decisions."""
    unjudged: Counter[str] = field(default_factory=Counter)
    """Of those that were made because nobody could tell: the verifier's own reason where it gave one, else the
    decision's."""

    @property
    def decided(self) -> int:
        return self.reasons.total()

    def __add__(self, other: RouteCounts) -> RouteCounts:
        return RouteCounts(self.reasons + other.reasons, self.unjudged + other.unjudged)

    def as_json(self) -> dict[str, dict[str, int]]:
        return {"routes": dict(sorted(self.reasons.items())), "unjudged": dict(sorted(self.unjudged.items()))}


def unjudged_line(decided: int, unjudged: Mapping[str, int]) -> str | None:
    """In words; None where everything was judged."""
    if not unjudged:
        return None
    told = ", ".join(f"{reason} {count:,}" for reason, count in Counter(unjudged).most_common())
    return f"{sum(unjudged.values()):,} of {decided:,} steps could not be judged: {told}"


def counts_of_course(store: VerdictStore, opening: str) -> RouteCounts:
    """From the verdicts that are stored about an opening."""
    rows = store.iter_verdicts(VerdictFilter(trace=opening))
    return count_routes(row.verdict for row in rows if row.payload is not None)


def count_routes(verdicts: Iterable[Verdict]) -> RouteCounts:
    """From the verdicts about one opening, in whatever order."""
    routes: dict[int, Verdict] = {}
    excuses: dict[int, str] = {}
    for verdict in verdicts:
        evidence = verdict.evidence[0] if verdict.evidence else None
        if isinstance(evidence, RouteEvidence):
            if evidence.policy != _WHOLE_SOLUTIONS and not verdict.verifier.startswith(_HANDED_OVER):
                routes[verdict.subject.position] = verdict
        elif _is_excuse(verdict):
            excuses.setdefault(verdict.subject.position, verdict.reason)
    unjudged = {position: verdict for position, verdict in routes.items() if verdict.outcome in _UNJUDGED}
    return RouteCounts(
        Counter(verdict.reason for verdict in routes.values()),
        Counter(excuses.get(position) or verdict.reason for position, verdict in unjudged.items()),
    )


def _is_excuse(verdict: Verdict) -> bool:
    """Whether a verifier says here that it has nothing to say about a step."""
    if verdict.subject.granularity is not Granularity.STEP or verdict.outcome not in _UNJUDGED:
        return False
    writes = verdict.verifier.partition("@")[0].endswith("-writer")
    return not writes and not any(isinstance(each, StepEvidence) for each in verdict.evidence)
