"""Memory does not grow with the file, nor with the longest line of it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")

# Run apart from the tests: the peak of a process counts whatever it ever held.
READER = """
import pathlib, re, sys
from draftproof.importers import Progress, read_traces
from draftproof.rejects import RejectsList
rejects, progress = RejectsList(), Progress()
for trace in read_traces(sys.argv[1], rejects=rejects, progress=progress):
    pass
# Not ru_maxrss, which starts at what the process that started this one held.
peak = int(re.search("VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) // 1024
print(progress.traces, [(r.line, r.code.value) for r in rejects], peak)
"""
LINE = b'{"problem": "How many?", "steps": ["%s", "16 - 3 = 13.", "13 * 2 = 26."]}\n' % (b"x" * 900)
BLOCK = LINE * 1000
BLOCK_BYTES = len(BLOCK)
PEAK_MEGABYTES = 200


def run(argument: str, feed=None) -> tuple[int, str, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", READER, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if feed is not None:
        for block in feed:
            process.stdin.write(block)
    process.stdin.close()
    said = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait(timeout=280) == 0
    traces, _, rest = said.strip().partition(" ")
    rejects, _, peak = rest.rpartition(" ")
    return int(traces), rejects, int(peak)


def stream(megabytes: int, long_line_megabytes: int):
    blocks = (megabytes << 20) // BLOCK_BYTES
    for number in range(blocks):
        if number == blocks // 2:
            yield b'{"problem": "'
            for _ in range(long_line_megabytes):
                yield b"y" * (1 << 20)
            yield b'"}\n'
        yield BLOCK


def test_a_stream_of_300_mb_with_a_line_of_64_mib():
    traces, rejects, peak = run("-", stream(300, 64))
    blocks = (300 << 20) // BLOCK_BYTES
    assert traces == blocks * 1000
    assert rejects == f"[({blocks // 2 * 1000 + 1}, 'too_long')]"
    assert peak < PEAK_MEGABYTES, f"{peak} MB"


def test_a_gzip_bomb_of_one_line(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(512):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + LINE)
    traces, rejects, peak = run(str(path))
    assert (traces, rejects) == (1, "[(1, 'too_long')]")
    assert peak < PEAK_MEGABYTES, f"{peak} MB"


def test_a_zstd_bomb_of_one_line(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    path = tmp_path / "bomb.jsonl.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as writer:
        for _ in range(512):
            writer.write(b"x" * (1 << 20))
        writer.write(b"\n" + LINE)
    assert path.stat().st_size < 200_000
    traces, rejects, peak = run(str(path))
    assert (traces, rejects) == (1, "[(1, 'too_long')]")
    assert peak < PEAK_MEGABYTES, f"{peak} MB"


def test_a_json_array_is_not_held(tmp_path):
    path = tmp_path / "array.json"
    with path.open("wb") as file:
        file.write(b"[")
        for number in range(100):
            file.write(b"," * bool(number) + b",".join([LINE] * 1000))
        file.write(b"]")
    traces, rejects, peak = run(str(path))
    assert (traces, rejects) == (100_000, "[]")
    assert peak < PEAK_MEGABYTES, f"{peak} MB"


@pytest.mark.parametrize(
    "unit", [b"[],", b'{"a":0},', b"1.5,", b'"\\n",'], ids=["lists", "objects", "numbers", "strings"]
)
def test_a_line_of_nothing_but_small_values(unit):
    """Sixteen MiB of empty lists would be half a gigabyte of objects."""
    line = b'{"problem": "p", "steps": ["a"], "x": [' + unit * ((16 << 20) // len(unit) - 64) + b"0]}\n"
    traces, rejects, peak = run("-", [line])
    assert (traces, rejects) in ((1, "[]"), (0, "[(1, 'too_complex')]"))
    assert peak < 300, f"{peak} MB"


@pytest.mark.slow
def test_a_stream_of_5_gb():
    traces, rejects, peak = run("-", stream(5000, 1024))
    assert traces == (5000 << 20) // BLOCK_BYTES * 1000
    assert rejects.count("too_long") == 1
    assert peak < PEAK_MEGABYTES, f"{peak} MB"
