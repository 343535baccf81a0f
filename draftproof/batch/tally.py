"""What became of the problems of a pipeline run together: counts, acceptance, accuracy, tokens by writer, and what
could not be judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from draftproof.batch.route_counts import RouteCounts
from draftproof.batch.solved import Solved


@dataclass
class Tally:
    """Sums over problems. The law: read = solved + failed + remaining, where all that was read was a problem."""

    read: int = 0
    """Problems read from the input; rejected lines are counted where they are rejected."""
    solved: int = 0
    failed: int = 0
    known: int = 0
    """Of both: those that needed no work."""
    finishes: dict[str, int] = field(default_factory=dict)
    referenced: int = 0
    """Problems with a reference answer that came to an end."""
    right: int = 0
    steps: int = 0
    """Steps that models wrote and that were kept."""
    by_target: int = 0
    undivided: int = 0
    """Solved problems whose text is a single step."""
    counts: dict[str, int] = field(default_factory=dict)
    """Sums of the outputs' counts: tokens by writer, calls, escalations."""
    seconds: float = 0.0
    """Sum of the problems' wall clocks."""
    routes: RouteCounts = field(default_factory=RouteCounts)
    outcomes: dict[str, int] = field(default_factory=dict)
    """Of pipelines that check their own solutions, what the checks came to: accept, reject, abstain, error."""

    @property
    def remaining(self) -> int:
        return self.read - self.solved - self.failed

    @property
    def acceptance(self) -> float | None:
        """Share of the steps that the draft model wrote; None where there are none."""
        return 1.0 - self.by_target / self.steps if self.steps else None

    @property
    def accuracy(self) -> float | None:
        return self.right / self.referenced if self.referenced else None

    def add(self, one: Solved, routes: RouteCounts) -> None:
        self.known += one.known
        self.finishes[one.finish] = self.finishes.get(one.finish, 0) + 1
        if one.failed:
            self.failed += 1
        else:
            self.solved += 1
        if one.problem.answer is not None:  # a failure is no right answer
            self.referenced += 1
            self.right += one.correct is True
        self.steps += sum(block.role in ("draft", "target") for block in one.blocks)
        self.by_target += sum(block.role == "target" for block in one.blocks)
        self.undivided += not one.failed and len(one.blocks) == 1
        for name, count in one.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self.seconds += one.seconds
        self.routes += routes
        if one.outcome:
            self.outcomes[one.outcome] = self.outcomes.get(one.outcome, 0) + 1

    def as_json(self) -> dict[str, Any]:
        return {
            "problems": self.read,
            "finished": self.solved,
            "errored": self.failed,
            "remaining": self.remaining,
            "known": self.known,
            "finishes": dict(sorted(self.finishes.items())),
            "outcomes": dict(sorted(self.outcomes.items())),
            "with_reference": self.referenced,
            "right": self.right,
            "accuracy": self.accuracy,
            "steps": self.steps,
            "steps_by_target": self.by_target,
            "acceptance": self.acceptance,
            "undivided": self.undivided,
            **self.routes.as_json(),
            "counts": dict(self.counts),
            "seconds_per_problem": self.seconds / (self.solved + self.failed) if self.solved + self.failed else None,
        }
