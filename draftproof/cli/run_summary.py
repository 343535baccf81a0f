"""What a pipeline run ends with: the law of its problems, accuracy, acceptance, tokens, and what nobody judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from draftproof.cli.route_view import tokens_line

if TYPE_CHECKING:
    from draftproof.batch.tally import Tally


_CHECKS = {"accept": "accepted", "reject": "rejected", "abstain": "could not judge", "error": "failed on"}


def conservation_line(tally: Tally, rejected: int) -> str:
    """The law, written out: lines = finished + errored + rejected + remaining."""
    parts = (
        f"{tally.solved:,} finished",
        f"{tally.failed:,} errored",
        f"{rejected:,} rejected",
        f"{tally.remaining:,} remaining",
    )
    return f"{tally.read + rejected:,} problems = {' + '.join(parts)}"


def summary_lines(tally: Tally, rejected: int, *, run_seconds: float | None = None, alone: bool = False) -> list[str]:
    """For people, a line each. `alone`: of a pipeline without a draft model."""
    from draftproof.batch.route_counts import unjudged_line

    lines = [conservation_line(tally, rejected)]
    ended = tally.solved + tally.failed
    if not ended:
        return lines
    unfinished = {name: count for name, count in sorted(tally.finishes.items()) if name not in ("end", "error")}
    if unfinished:
        told = ", ".join(f"{name} {count:,}" for name, count in unfinished.items())
        lines.append(f"of the finished, without an answer: {told}")
    if tally.outcomes:
        told = ", ".join(
            f"{words} {tally.outcomes[name]:,}" for name, words in _CHECKS.items() if name in tally.outcomes
        )
        lines.append(f"of the solutions, its own check {told}")
    if tally.accuracy is not None:
        lines.append(f"accuracy {tally.accuracy:.1%}: {tally.right:,} of {tally.referenced:,} with a reference answer")
    if tally.acceptance is not None and not alone:
        by_draft = tally.steps - tally.by_target
        lines.append(f"acceptance {tally.acceptance:.1%}: {by_draft:,} of {tally.steps:,} steps by the draft model")
    if tally.undivided == tally.solved > 0:
        lines.append("every text is a single step: the separator was never written")
    unjudged = unjudged_line(tally.routes.decided, tally.routes.unjudged)
    if unjudged is not None:
        lines.append(unjudged)
    lines.append(tokens_line(tally.counts))
    pace = f"{tally.seconds / ended:.3f} s a problem"
    if run_seconds is not None:
        known = f", {tally.known:,} known before" if tally.known else ""
        pace += f"; {run_seconds:.1f} s in all{known}"
    lines.append(pace)
    return lines


def summary_json(tally: Tally, rejects: Mapping[str, int], run: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run": run,
        "settings": dict(settings),
        **tally.as_json(),
        "rejected": sum(rejects.values()),
        "rejects": dict(rejects),
    }


def rejects_lines(rejects: Mapping[str, int]) -> Sequence[str]:
    return [f"{count:,} lines could not be read; they and the reasons are in {path}" for path, count in rejects.items()]
