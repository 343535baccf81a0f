"""From a `Verdict` to the row that keeps it.

This is the hot path of every run. It builds plain tuples in the order of `COLUMNS`, asks pydantic
for the payload once, and reads `_value_` of enumerations because `value` looks it up at each use.

pydantic writes fields in the order of the model, so that the same verdict gives the same bytes.
Those bytes are stored, and the leaf digest covers exactly them.
"""

from __future__ import annotations

from collections.abc import Sequence

from draftproof.store.inserts import Row, columns_of
from draftproof.store.leaf import leaf_digest, salts
from draftproof.store.tables import verdicts as table
from draftproof.store.texts import json_text, key_text, searchable
from draftproof.verdict import Verdict

COLUMNS = columns_of(table, without=("id", "tree_index"))


def rows_of(verdicts: Sequence[Verdict], run: int, now: str) -> list[Row]:
    """One row a verdict, at revision 0. Raises ContractError for a verdict that JSON cannot hold."""
    return [
        row_of(verdict, run, now, salt=salt, verifier=verdict.verifier)
        for verdict, salt in zip(verdicts, salts(len(verdicts)), strict=True)
    ]


def row_of(
    verdict: Verdict,
    run: int,
    now: str,
    *,
    salt: bytes,
    verifier: str,
    revision: int = 0,
    supersedes: int | None = None,
    author: str | None = None,
    note: str | None = None,
) -> Row:
    """The row for `verdict` in the place of `verifier`, which differs from its own in an override."""
    payload = payload_of(verdict)
    subject = verdict.subject
    cost = verdict.cost
    return (
        run,
        key_text(subject.trace_digest),
        subject.granularity._value_,
        subject.position,
        key_text(verifier),
        verdict.sample,
        revision,
        supersedes,
        author,
        note,
        verdict.proposition._value_,
        verdict.outcome._value_,
        verdict.score,
        verdict.calibrated,
        verdict.guarantee._value_,
        verdict.lossless,
        searchable(verdict.reason),
        cost.wall_seconds,
        cost.calls,
        cost.prompt_tokens,
        cost.output_tokens,
        payload,
        salt,
        leaf_digest(salt, payload.encode()),
        now,
    )


def payload_of(verdict: Verdict) -> str:
    return json_text(verdict, free=verdict.raw, what=f"the `raw` of {verdict.verifier}")
