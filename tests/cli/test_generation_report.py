"""What plain decoding would have taken: by passes of the generation's own time, not of start-up's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from draftproof.cli.generation_report import LEAST_ROUNDS, plain_seconds
from draftproof.drafting.decoder import SpeculativeDecoder
from draftproof.drafting.generation import Generation

PROMPT = "ab ab ab ab"


def test_the_estimate_follows_what_passes_take_now(tiny_chat: Any) -> None:
    decoder = SpeculativeDecoder(tiny_chat, "prompt-lookup", policy="cost")
    (made,) = decoder.generate(PROMPT, max_new_tokens=30, stop_ids=frozenset())
    costs, running = decoder.costs, decoder.policy.plain_costs  # type: ignore[attr-defined]
    assert costs is not None
    for _ in range(200):  # the machine is now a hundred times as busy
        running.observe(1, 100.0 * costs.pass_ms(1))
    estimate = plain_seconds(made, decoder)
    assert estimate == pytest.approx(made.totals.emitted * 0.1 * costs.pass_ms(1), rel=0.05)
    by_start_up = made.totals.emitted * costs.pass_ms(1) / 1000.0  # the negative control: 1 % of it
    assert estimate > 50.0 * by_start_up


def test_where_no_costs_are_kept_its_own_plain_rounds_count(tiny_chat: Any) -> None:
    decoder = SpeculativeDecoder(tiny_chat, "prompt-lookup", policy="fixed")
    (made,) = decoder.generate(PROMPT, max_new_tokens=100, stop_ids=frozenset())
    assert decoder.plain_pass_ms is None
    slow = [replace(record, drafted=0, verify_ms=7e6) for record in made.rounds[:1]] * LEAST_ROUNDS
    drafted = [replace(record, drafted=4, verify_ms=9e9) for record in made.rounds[:1]] * 5
    every = with_rounds(made, slow + drafted)
    assert plain_seconds(every, decoder) == pytest.approx(every.totals.emitted * 7e3)
    few = with_rounds(made, slow[1:] + drafted)  # too few to go by: a pass is timed
    assert (plain_seconds(few, decoder) or 0.0) < few.totals.emitted * 7e3
    assert plain_seconds(with_rounds(made, []), decoder) is None


def with_rounds(made: Generation, records: list[Any]) -> Generation:
    return replace(made, blocks=(made.blocks[0], *(replace(made.blocks[0], record=record) for record in records)))
