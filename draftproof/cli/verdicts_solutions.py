"""Courses that wrote several whole solutions, as a person reads them: each attempt with its check, each candidate with
its standing, and which of them became the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from draftproof.cli.screen import COLOURS, one_line, plain
from draftproof.verdict import Outcome

_CRITIQUE_WIDTH = 160


def solutions_of(output: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The attempts or the candidates of an output; empty for a text that was written once."""
    return output.get("attempts") or output.get("candidates") or ()


def is_kept(output: Mapping[str, Any], number: int) -> bool:
    """Whether the solution of this number is the text."""
    return number == (output["kept"] if output.get("attempts") else output["winner"] or 0)


def solution_head(output: Mapping[str, Any], number: int) -> Text:
    """`attempt 1 of 2: ended by end` or `candidate 3 of 8: …`, and whether it is the text."""
    solutions = solutions_of(output)
    one = solutions[number]
    what = "attempt" if output.get("attempts") else "candidate"
    ended = one["stop"] if output.get("attempts") else one["finish"]
    head = plain(f"{what} {number + 1} of {len(solutions)}", "bold") + plain(f"  {ended}", "dim")
    return head + plain("  is the text", "bold green") if is_kept(output, number) else head


def solution_end(output: Mapping[str, Any], number: int) -> list[RenderableType]:
    """What was said of a solution as a whole."""
    one = solutions_of(output)[number]
    lines = _checked(one) if output.get("attempts") else [_standing(one)]
    return [*(Padding(line, (0, 0, 0, 2)) for line in lines), Text()]


def choice_line(output: Mapping[str, Any]) -> Text | None:
    """Which candidate was taken, and why; of attempts, their own lines say it."""
    if not output.get("candidates"):
        return None
    winner = output["winner"]
    taken = "nobody won" if winner is None else f"candidate {winner + 1} won"
    return plain("choice: ", "bold") + plain(taken) + plain(f"  {output['by']}: {output['reason']}", "dim")


def _checked(attempt: Mapping[str, Any]) -> list[Text]:
    if not attempt["outcome"]:
        return [plain("check: ", "bold") + plain("none was made", "yellow")]
    outcome = Outcome(attempt["outcome"])
    line = plain("check: ", "bold") + plain(outcome.value, COLOURS[outcome])
    score = "" if attempt["score"] is None else f"  score {attempt['score']:.4g}"
    where = "" if attempt["first_error"] is None else f"  first error in step {attempt['first_error']}"
    lines = [line + plain(f"{score}{where}  {attempt['reason']}", "dim")]
    if attempt["critique"]:
        lines.append(plain(one_line(attempt["critique"], _CRITIQUE_WIDTH), "dim"))
    return lines


def _standing(candidate: Mapping[str, Any]) -> Text:
    answer, score = candidate["answer"], candidate["score"]
    said = "states no answer" if answer is None else f"answer {one_line(answer, 60)}"
    return plain(said) + plain("  not scored" if score is None else f"  score {score:.4g}", "dim")
