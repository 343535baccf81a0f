"""Who wrote which step, as a person sees it: a row of blocks, and a trace told step by step from its verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from draftproof.cli.screen import COLOURS, one_line, plain

if TYPE_CHECKING:
    from draftproof.batch.solved import Block
    from draftproof.store.records import StoredVerdict
    from draftproof.trace import Trace

STYLES = {"draft": "green", "target": "magenta", "pipeline": "dim"}
LEGEND = "draft model · target model · discarded draft"
_DISCARDED_WIDTH = 120


def blocks(given: Sequence[Block], most: int) -> Text:
    """A block a step, in the colour of its writer, with a dim one before it for a draft that was discarded.

    At most `most` characters: of a longer answer, its end.
    """
    row = Text()
    for block in given:
        if block.discarded is not None:
            row.append("▪", "bright_black")
        row.append("│" if block.role == "pipeline" else "■", STYLES.get(block.role, ""))
    if len(row) > most:
        row = Text("…", "bright_black") + row[len(row) - most + 1 :]
    return row


def legend() -> Text:
    draft, target, discarded = LEGEND.split(" · ")
    return Text.assemble(
        *(("■ ", "green"), (f"{draft}  ", "dim"), ("■ ", "magenta"), (f"{target}  ", "dim")),
        *(("▪ ", "bright_black"), (discarded, "dim")),
    )


def route_view(trace: Trace, output: Mapping[str, Any], others: Iterable[StoredVerdict]) -> RenderableType:
    """A pipeline's course: each step with its writer, what was compared to decide it, and what was discarded. Of
    several attempts or candidates, each with its own steps.

    `output` is a `draftproof.pipelines.step_state.StepOutput`; `others` are verdicts of other verifiers about steps.
    """
    from draftproof.cli.verdicts_solutions import choice_line, is_kept, solution_end, solution_head, solutions_of

    by_step: dict[int, list[StoredVerdict]] = {}
    for verdict in others:
        by_step.setdefault(verdict.subject.position, []).append(verdict)
    parts: list[RenderableType] = [_header(trace, output), plain(str(output["problem"]).strip(), "italic"), Text()]
    solutions = solutions_of(output)
    for number, solution in enumerate(solutions):
        parts.append(solution_head(output, number))
        parts += _steps(solution["steps"], by_step if is_kept(output, number) else {})
        parts += solution_end(output, number)
    if not solutions:
        parts += _steps(output["steps"], by_step)
    choice = choice_line(output)
    if choice is not None:
        parts.append(choice)
    undecided = output.get("undecided") or {}
    for text in undecided.get("written") or ():
        parts.append(_discarded(text, "written, and nothing followed"))
    parts += _end(output)
    return Group(*parts)


def _header(trace: Trace, output: Mapping[str, Any]) -> Text:
    name = output.get("id") or trace.id
    attempt = f"  attempt {output['attempt']}" if output.get("attempt") else ""
    return Text.assemble(
        plain(str(name), "bold"), plain(f"  {trace.digest[:19]}  by {output['pipeline']}{attempt}", "dim")
    )


def _steps(steps: Iterable[Mapping[str, Any]], others: Mapping[int, Iterable[StoredVerdict]]) -> list[RenderableType]:
    """Each step, and what other verifiers said of it."""
    from draftproof.cli.trace_view import verdict_lines

    parts: list[RenderableType] = []
    for position, step in enumerate(steps):
        parts += _step(position, step)
        for verdict in others.get(position, ()):
            parts += [Padding(line, (0, 0, 0, 4)) for line in verdict_lines(verdict)]
    return parts


def _step(position: int, step: Mapping[str, Any]) -> list[RenderableType]:
    style = STYLES.get(step["role"], "")
    head = Text.assemble((f"■ step {position}", f"bold {style}"), plain(f"  {step['role']}", style))
    head.append_text(plain(f"  {_tokens(step)}", "dim"))
    model = step.get("model")
    if model:
        head.append_text(plain(f"  {model}", "dim"))
    parts: list[RenderableType] = [head, Padding(plain(step["text"].rstrip(), style), (0, 0, 0, 2))]
    if step.get("route"):
        parts.append(Padding(route_line(step["route"]), (0, 0, 0, 4)))
    if step.get("discarded"):
        parts.append(_discarded(step["discarded"], f"discarded {step['discarded']['role']}"))
    return parts


def route_line(route: Mapping[str, Any]) -> Text:
    """`glimpse: 1.312 against 0.9 -> target (first_token_uncertain)`."""
    score, threshold = route["score"], route["threshold"]
    compared = "nothing to compare" if score is None else f"{score:.4g}"
    if threshold is not None:
        compared += f" against {threshold:g}"
    return Text.assemble(
        plain(f"{route['policy']}: ", "bold"),
        plain(compared),
        " → ",
        plain(route["to"], STYLES.get(route["to"], "")),
        plain(f"  {route['reason']}", "dim"),
    )


def _discarded(text: Mapping[str, Any], why: str) -> Padding:
    score = "" if text.get("score") is None else f", score {text['score']:.4g}"
    line = plain(f"▪ {why}, {_tokens(text)}{score}: ", "bright_black")
    return Padding(line + plain(one_line(text["text"], _DISCARDED_WIDTH), "dim strike"), (0, 0, 0, 4))


def _tokens(text: Mapping[str, Any]) -> str:
    return f"{text['tokens']} token{'' if text['tokens'] == 1 else 's'}, {text['cause']}"


def _end(output: Mapping[str, Any]) -> list[RenderableType]:
    from draftproof.verdict import Outcome

    finish = str(output["finish"])
    outcome = {"end": Outcome.ACCEPT, "error": Outcome.ERROR}.get(finish, Outcome.REJECT)
    error = f"  {one_line(str(output['error']), 160)}" if output.get("error") else ""
    checked = Outcome(output["outcome"]) if output.get("outcome") else None
    said = plain("") if checked is None else plain(f", check: {checked.value}", COLOURS[checked])
    counts = output["counts"]
    return [
        Text(),
        Text.assemble(plain("ended: ", "bold"), plain(finish, COLOURS[outcome]), said, plain(error, "yellow")),
        plain(tokens_line(counts), "dim"),
    ]


def tokens_line(counts: Mapping[str, int]) -> str:
    """Tokens by writer, in words."""
    return (
        f"tokens: draft {counts.get('draft_tokens_kept', 0):,} kept and "
        f"{counts.get('draft_tokens_discarded', 0):,} discarded, target {counts.get('target_tokens', 0):,} · "
        f"calls: draft {counts.get('draft_calls', 0):,}, target {counts.get('target_calls', 0):,}, "
        f"probes {counts.get('probe_calls', 0):,}, judgements {counts.get('judge_calls', 0):,}"
    )
