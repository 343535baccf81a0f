"""Long lives: rows that come and go by the hundred leave nothing behind."""

from __future__ import annotations

import gc
import resource
from pathlib import Path
from typing import Any

import pytest

from draftproof.drafting.decoder import SpeculativeDecoder

ROUNDS = 10_000


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("drafter", ["prompt-lookup", "suffix", "hybrid"])
def test_memory_does_not_grow_with_rounds(tiny_chat: Any, drafter: str) -> None:
    decoder = SpeculativeDecoder(tiny_chat, drafter, policy="fixed")
    done = 0
    marks: list[float] = []
    while done < ROUNDS:
        prompts = [f"{done + number}: the river, the river" for number in range(8)]
        done += sum(made.totals.rounds for made in decoder.generate(prompts, max_new_tokens=100))
        gc.collect()
        marks.append(resident_megabytes())
    settled = marks[len(marks) // 4 :]
    assert max(settled[-5:]) - max(settled[:5]) < 8.0, marks
    assert decoder.session.rows == {}
