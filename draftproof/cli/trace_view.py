"""A trace with its verdicts, as a person reads it: steps coloured by outcome, wrong equations underlined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from draftproof.cli.screen import COLOURS, SIGNS, one_line, plain
from draftproof.store.records import StoredVerdict
from draftproof.subject import Granularity
from draftproof.trace import Span, StepLabel, Trace
from draftproof.verdict import (
    AcceptanceEvidence,
    EquationEvidence,
    ErrorEvidence,
    Evidence,
    FeatureEvidence,
    GroundingEvidence,
    LeanEvidence,
    Outcome,
    QuoteEvidence,
    RouteEvidence,
    StepEvidence,
    VotesEvidence,
)

_WORST_FIRST = (Outcome.REJECT, Outcome.ERROR, Outcome.ACCEPT, Outcome.ABSTAIN)
MAX_EVIDENCE = 6
MAX_VOTES = 12
MAX_VALUE = 40
"""Characters of a value; the store holds more."""


_OF_STEPS = (Granularity.STEP, Granularity.TOKEN_BLOCK, Granularity.ROUTE)


def trace_view(trace: Trace, verdicts: Iterable[StoredVerdict]) -> RenderableType:
    """The problem, then each step with what every verifier said of it."""
    by_step: dict[int, list[StoredVerdict]] = defaultdict(list)
    whole: list[StoredVerdict] = []
    for verdict in verdicts:
        if verdict.subject.granularity in _OF_STEPS:
            by_step[verdict.subject.position].append(verdict)
        else:
            whole.append(verdict)
    parts: list[RenderableType] = [_header(trace), plain(trace.problem.strip(), "italic"), Text()]
    for position in range(len(trace.steps)):
        parts += step_view(trace, position, by_step.pop(position, []))
    for position, rest in sorted(by_step.items()):  # of an opening, which stands for what was not written yet
        parts.append(plain(f"step {position}", "bold"))
        parts += [Padding(line, (0, 0, 0, 4)) for verdict in rest for line in verdict_lines(verdict)]
    for verdict in sorted(whole, key=lambda verdict: (verdict.subject.granularity, verdict.subject.position)):
        parts += verdict_lines(verdict, about=_about(verdict))
    return Group(*parts)


def step_view(trace: Trace, position: int, verdicts: Sequence[StoredVerdict]) -> list[RenderableType]:
    """One step: its text, and a line or more a verdict."""
    outcome = worst(verdict.outcome for verdict in verdicts)
    label = _label(trace, position)
    head = Text.assemble((f"{SIGNS[outcome]} step {position}", f"bold {COLOURS[outcome]}"), label)
    spans = [evidence for verdict in verdicts for evidence in wrong_evidence(verdict)]
    body = marked(trace.steps[position].text, spans, COLOURS[outcome] if outcome is not Outcome.ABSTAIN else "")
    lines: list[RenderableType] = [head, Padding(body, (0, 0, 0, 2))]
    lines += [Padding(line, (0, 0, 0, 4)) for verdict in verdicts for line in verdict_lines(verdict)]
    return [*lines, Text()]


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome that a step is coloured by when verifiers differ."""
    given = set(outcomes)
    return next((outcome for outcome in _WORST_FIRST if outcome in given), Outcome.ABSTAIN)


def wrong_evidence(verdict: StoredVerdict) -> list[EquationEvidence | LeanEvidence | GroundingEvidence]:
    """The claims that a rejection rests on."""
    if verdict.outcome is not Outcome.REJECT or verdict.payload is None:
        return []
    return [
        evidence
        for evidence in verdict.verdict.evidence
        if (isinstance(evidence, EquationEvidence | GroundingEvidence) and evidence.holds is False)
        or (isinstance(evidence, LeanEvidence) and evidence.status == "refuted")
    ]


def marked(text: str, wrong: Sequence[EquationEvidence | LeanEvidence | GroundingEvidence], style: str = "") -> Text:
    """`text` with the wrong claims underlined. Spans are cut to the text: stored evidence is not trusted to fit."""
    result = Text()
    at = 0
    for start, end in sorted({(e.span.start, e.span.end) for e in wrong}):
        start, end = max(at, min(start, len(text))), min(end, len(text))
        result.append_text(plain(text[at:start], style))
        result.append_text(plain(text[start:end], "bold red underline"))
        at = max(at, end)
    result.append_text(plain(text[at:], style))
    result.rstrip()
    return result


def evidence_line(evidence: Evidence) -> Text:
    """One piece of evidence in one line."""
    match evidence:
        case EquationEvidence():
            return _equation(evidence)
        case LeanEvidence():
            claim = one_line(evidence.text, 100)
            tail = f"  [{one_line(evidence.message, 120)}]" if evidence.message else ""
            cached = " (cached)" if evidence.cached else ""
            return Text.assemble((f"{evidence.status}{cached}: ", "bold"), plain(claim), plain(tail, "dim"))
        case AcceptanceEvidence():
            drafted = f"{evidence.drafter} drafted {evidence.drafted}, {evidence.rule} accepted {evidence.accepted}"
            return plain("drafted nothing" if not evidence.drafted else drafted)
        case StepEvidence():
            state = "" if evidence.kept else "discarded, "
            head = plain(f"{evidence.role} wrote ({state}{evidence.tokens} tokens, {evidence.cause}): ", "dim")
            return head + plain(one_line(evidence.text, 100), "" if evidence.kept else "dim")
        case RouteEvidence():
            score = "nothing to compare" if evidence.score is None else f"{evidence.score:.4g}"
            against = "" if evidence.threshold is None else f" against {evidence.threshold:g}"
            return Text.assemble(plain(f"{evidence.policy}: {score}{against} → "), plain(evidence.to, "bold"))
        case VotesEvidence():
            winner = "none" if evidence.winner is None else one_line(evidence.winner, 40)
            given = ", ".join(one_line(vote, 20) or "unread" for vote in evidence.votes[:MAX_VOTES])
            more = f", … of {len(evidence.votes)}" if len(evidence.votes) > MAX_VOTES else ""
            agreed = plain(f" with {evidence.agreement:.0%} of the votes: ", "dim")
            return Text.assemble(plain(winner, "bold"), agreed, plain(f"{given}{more}"))
        case QuoteEvidence():
            return plain(f"{one_line(evidence.document, 40)} {_place(evidence.span)}: ", "dim") + plain(
                f"“{one_line(evidence.text, 100)}”"
            )
        case GroundingEvidence():
            return _grounding(evidence)
        case FeatureEvidence():
            return plain(", ".join(f"{name} {value:.4g}" for name, value in evidence.values.items()), "dim")
        case ErrorEvidence():
            return Text.assemble(plain(f"{evidence.type}: ", "yellow"), plain(one_line(evidence.message, 160)))


def _shown(value: str | None) -> str:
    """` = 24`, ` ≈ 1.414`, or the beginning of a value that is too long to read; the store has all of it."""
    if value is None:
        return " not computed"
    sign = "" if value.startswith("≈") else "= "
    return f" {sign}{one_line(value, MAX_VALUE)}"


def _equation(evidence: EquationEvidence) -> Text:
    claim = one_line(evidence.text, 100)
    if evidence.holds is None:
        return Text.assemble(plain(f"not decided ({evidence.reason}): ", "dim"), plain(claim, "dim"))
    colour = "green" if evidence.holds else "red"
    line = Text.assemble(plain(claim, colour))
    if not evidence.holds:
        values = f"   left side{_shown(evidence.left_value)}, right side{_shown(evidence.right_value)}"
        line.append_text(plain(values, "bold"))
    if evidence.tolerance is not None:
        line.append_text(plain(f"   (within {evidence.tolerance})", "dim"))
    if evidence.hypotheses:
        line.append_text(plain(f"   given {', '.join(evidence.hypotheses)}", "dim"))
    return line


def _grounding(evidence: GroundingEvidence) -> Text:
    """`number 1519: found in chunk-1 (10-14)`, `name Drogo: absent`."""
    colour = {True: "green", False: "red", None: "dim"}[evidence.holds]
    reason = evidence.reason.replace("_", " ") or {True: "holds", False: "fails", None: "not decided"}[evidence.holds]
    line = Text.assemble(plain(f"{evidence.about} ", "dim"), plain(one_line(evidence.text, 100), colour))
    line.append_text(plain(f": {one_line(reason, 60)}", "bold" if evidence.holds is False else "dim"))
    if evidence.document is not None:
        place = "" if evidence.found is None else f" {_place(evidence.found)}"
        line.append_text(plain(f" in {one_line(evidence.document, 40)}{place}", "dim"))
    return line


def _place(span: Span) -> str:
    return f"({span.start}-{span.end})"


def _about(verdict: StoredVerdict) -> str:
    """`claim 2`, for verdicts that stand below the steps; nothing for those about the whole trace."""
    key = verdict.subject
    return "" if key.granularity is Granularity.TRACE else f"{key.granularity.value} {key.position}  "


def verdict_lines(verdict: StoredVerdict, about: str = "") -> list[Text]:
    """A verdict and its evidence, a line each; `about` says of what, where the place does not."""
    name = verdict.verifier.partition("#")[0]
    colour = COLOURS[verdict.outcome]
    reason = plain(f"  {verdict.reason}", "dim")
    head = Text.assemble(plain(about), plain(f"{name} ", "bold"), (verdict.outcome.value, colour), reason)
    if verdict.author:
        head.append_text(plain(f"  by {verdict.author}: {one_line(verdict.note or '', 80)}", "magenta"))
    lines = [head]
    if verdict.payload is None:
        return [*lines, plain("  (payload erased)", "dim")]
    evidence = verdict.verdict.evidence
    lines += [Text("  ") + evidence_line(item) for item in evidence[:MAX_EVIDENCE]]
    if len(evidence) > MAX_EVIDENCE:
        lines.append(plain(f"  … and {len(evidence) - MAX_EVIDENCE} more", "dim"))
    return lines


def _header(trace: Trace) -> Text:
    parts = [f"  {trace.digest[:19]}", f"  by {trace.generator}" if trace.generator else ""]
    if trace.source is not None:
        parts.append(f"  {trace.source.file}:{trace.source.line}")
    if trace.answer_correct is not None:
        parts.append(f"  final answer {'right' if trace.answer_correct else 'wrong'}")
    return Text.assemble(plain(trace.id, "bold"), plain("".join(parts), "dim"))


def _label(trace: Trace, position: int) -> tuple[str, str]:
    if trace.step_labels is None or trace.step_labels[position] is StepLabel.UNKNOWN:
        return "", ""
    label = trace.step_labels[position]
    return f"  labelled {label.value}", "green" if label is StepLabel.CORRECT else "red"
