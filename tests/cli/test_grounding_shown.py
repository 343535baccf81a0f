"""How `verdicts show` and `verdicts query` print what was grounded and what was quoted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.trace import Step, Trace
from draftproof.verifiers.grounding.quote_verifier import QuoteVerifier
from draftproof.verifiers.grounding.verifier import GroundingVerifier
from tests.cli.test_terminal import obeyed

DOCUMENT = "Drogo was crowned in 1046, and said: “let us ride”."


def stored(folder: Path, *texts: str, chunk: str = "chunk-1") -> None:
    """The texts, judged by both verifiers as claims of one trace, in a store."""
    trace = Trace(id="t", problem="When was Drogo crowned?", steps=(Step(text="In 1046."),))
    with VerdictStore.open(f"sqlite:///{folder / 'n.db'}") as store:
        run = store.begin_run("test", verifiers=[], settings={}, inputs=[])
        store.add_traces(run.id, [trace])
        for position, text in enumerate(texts):
            subject = Subject(
                key=SubjectKey(trace_digest=trace.digest, granularity=Granularity.CLAIM, position=position),
                problem=trace.problem,
                text=text,
                documents={chunk: DOCUMENT},
            )
            for verifier in (GroundingVerifier(), QuoteVerifier()):
                store.add(verifier.check([subject]), run.id)
        store.finish_run(run.id)


def test_findings_are_shown_with_their_places(cli: Callable[..., Any], tmp_path: Path) -> None:
    stored(tmp_path, "He said “let us ride” in 1047.", "It was Drogo, in 1046.", "He said “let us walk”.")
    shown = [" ".join(line.split()) for line in cli("verdicts", "show", "t", "--store", "n.db").out.splitlines()]
    for line in (
        "claim 0 grounding@1 reject number_absent",
        "number 1047: absent",
        "claim 0 quote@1 accept all_quotes_found",
        "quote let us ride: found in chunk-1 (38-49)",
        "chunk-1 (38-49): “let us ride”",
        "claim 1 grounding@1 abstain not_judged",
        "name Drogo: found in chunk-1 (0-5)",
        "number 1046: found in chunk-1 (21-25)",
        "claim 1 quote@1 abstain no_quote",
        "claim 2 quote@1 reject quote_absent",
        "quote let us walk: absent",
    ):
        assert line in shown, line
    claims = [line.split()[1] for line in shown if line.startswith("claim ")]
    assert claims == sorted(claims)


def test_a_list_of_verdicts_shows_what_was_missing_first(cli: Callable[..., Any], tmp_path: Path) -> None:
    stored(tmp_path, "It was Drogo, in 1047.")
    listed = cli("verdicts", "query", "--store", "n.db", "--outcome", "reject")
    assert "number 1047: absent" in listed.out


def test_texts_and_ids_are_shown_and_not_obeyed(cli: Callable[..., Any], tmp_path: Path) -> None:
    bad = "\x1b[2J\u202e[red]"
    stored(tmp_path, f"He said “let us {bad} walk” to Rollo{bad}, in 1046.", chunk=f"chunk {bad}")
    for command in (("verdicts", "show", "t"), ("verdicts", "query")):
        shown = cli(*command, "--store", "n.db")
        assert shown.status == 0
        assert obeyed(shown.out) == []
        assert "[red]" in shown.out
