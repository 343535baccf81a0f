"""`kill -9` at a random moment, again and again: nothing is lost, nothing is doubled."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from draftproof.store.queries import VerdictFilter
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces

WRITER = """
import sys
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces, made_verdicts
url, count, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = VerdictStore.open(url)
traces = made_traces(count)
run = store.begin_run("writer", verifiers=[ARITHMETIC])
store.add_traces(run.id, traces)
for start in range(0, count, 64):
    pairs = store.missing(traces[start : start + 64], [ARITHMETIC])
    for at in range(0, len(pairs), batch):
        verdicts = list(made_verdicts(pairs[at : at + batch]))
        added = store.add(verdicts, run.id)
        print(added.inserted, flush=True)
store.finish_run(run.id)
print("finished", flush=True)
"""


def kill_again_and_again(url: str, store: VerdictStore, kills: int, traces: int, batch: int) -> int:
    """Kills `kills` writers while they write, lets the last one end; returns what they acknowledged."""
    chance = random.Random(20_240_229)
    acknowledged = 0
    for left in reversed(range(kills + 1)):
        command = [sys.executable, "-c", WRITER, url, str(traces), str(batch)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stderr is not None
            lines = [writer.stdout.readline()]  # it has begun to write
            if left:
                time.sleep(chance.uniform(0, 0.02))
                writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.read().splitlines()  # `communicate` would lose what `readline` read ahead
            assert writer.stderr.read() == ""
        counted = [int(line) for line in lines if line.strip().isdigit()]
        acknowledged += sum(counted)
        if left:
            assert writer.returncode == -signal.SIGKILL, "the writer ended before it was killed: give it more to do"
        else:
            assert lines[-1] == "finished"
        stored = sum(store.count_verdicts().values())
        # a batch may be committed and its acknowledgement die with the writer; the reverse would be a loss
        assert acknowledged <= stored <= acknowledged + batch * (kills + 1 - left)
    return acknowledged


def check_nothing_lost_nothing_doubled(url: str, store: VerdictStore, kills: int, traces: int, batch: int) -> None:
    kill_again_and_again(url, store, kills, traces, batch)
    rows = list(store.iter_verdicts(VerdictFilter(history=True)))
    keys = {(row.subject, row.verifier, row.sample) for row in rows}
    expected = {(trace.digest, position) for trace in made_traces(traces) for position in range(8)}
    assert len(keys) == len(rows) == 8 * traces
    assert {(key[0].trace_digest, key[0].position) for key in keys} == expected
    assert all(row.intact for row in rows)
    last, *killed = store.runs()
    (total,) = store.conservation(last.id)
    assert (total.subjects, total.settled) == (8 * traces, True)
    assert [run.status for run in killed] == ["running"] * kills
    assert store.missing(made_traces(traces), [ARITHMETIC]) == []


def test_killed_writers_lose_and_double_nothing(url: str, store: VerdictStore) -> None:
    check_nothing_lost_nothing_doubled(url, store, kills=4, traces=400, batch=10)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_killed_writers_lose_and_double_nothing(url: str, store: VerdictStore) -> None:
    check_nothing_lost_nothing_doubled(url, store, kills=100, traces=6000, batch=10)
