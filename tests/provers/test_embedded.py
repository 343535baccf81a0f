"""The embedded environment's contract: what is proved, what is refuted, and who pays for a failure."""

from __future__ import annotations

import gc
import os
import signal
import sys
from fractions import Fraction

import pytest

from draftproof.errors import ProofEnvironmentError
from draftproof.provers import kernel
from draftproof.provers.embedded import EmbeddedEnvironment
from draftproof.provers.environment import LeanClaim, Limits, Status
from draftproof.provers.kernel import KernelProcess, Request, attempts
from draftproof.provers.statement import Statement

pytestmark = pytest.mark.lean


def settle(environment, *claims, seconds=20.0):
    return [(r.status, r.reason) for r in environment.check(claims, Limits(seconds=seconds))]


@pytest.mark.parametrize(
    ("text", "given", "status", "reason"),
    [
        ("48 / 2 = 24", (), Status.PROVED, ""),
        ("48 / 2 = 25", (), Status.REFUTED, ""),
        ("16 - 3 - 4 = 9", (), Status.PROVED, ""),
        ("5 - 7 = 0", (), Status.REFUTED, ""),
        ("5 - 7 = -2", (), Status.PROVED, ""),
        ("7 / 2 = 3", (), Status.REFUTED, ""),
        ("7 / 2 = 3.5", (), Status.PROVED, ""),
        ("5 / 0 = 0", (), Status.REFUTED, "division_by_zero"),
        ("0 / 0 = 0 / 0", (), Status.REFUTED, "division_by_zero"),
        ("5 / 0 != 0", (), Status.REFUTED, "division_by_zero"),
        ("1 = 1 + 1 / (2 - 2)", (), Status.REFUTED, "division_by_zero"),
        ("0 ** -1 = 0", (), Status.REFUTED, "division_by_zero"),
        ("0 ** 0 = 1", (), Status.UNKNOWN, "undecided"),
        ("sqrt(2) < 2", (), Status.UNKNOWN, "undecided"),
        ("sqrt(2) = 3", (), Status.UNKNOWN, "undecided"),
        ("sqrt(-4) = 2", (), Status.UNKNOWN, "undecided"),
        ("2 ** 0.5 = 1", (), Status.UNKNOWN, "undecided"),
        ("factorial(-5) = 1", (), Status.UNKNOWN, "undecided"),
        ("mod(5, 0) = 0", (), Status.UNKNOWN, "undecided"),
        ("mod(-7, 3) = 2", (), Status.PROVED, ""),
        ("mod(7, -3) = 1", (), Status.UNKNOWN, "undecided"),
        ("sqrt(2.25) = 1.5", (), Status.PROVED, ""),
        ("floor(-7 / 2) = -4", (), Status.PROVED, ""),
        ("ceil(-7 / 2) = -3", (), Status.PROVED, ""),
        ("lcm(0, 0) = gcd(0, 0)", (), Status.PROVED, ""),
        ("binomial(3, 5) = 0", (), Status.PROVED, ""),
        ("factorial(1500) > 10 ** 1000", (), Status.PROVED, ""),
        ("(-2) ** 3 = -8", (), Status.PROVED, ""),
        ("2 ** -2 = 0.25", (), Status.PROVED, ""),
        ("x / 2 = 24", ("x = 48",), Status.PROVED, ""),
        ("x / 2 = 25", ("x = 48",), Status.REFUTED, ""),
        ("x / y = 24", ("x = 48", "y = 4 / 2", "x = 96 / 2"), Status.PROVED, ""),
        ("x / 2 = 24", ("x = 48", "x = 50"), Status.VACUOUS, "contradictory_hypotheses"),
        ("1 = 2", ("x = 48", "x = 50"), Status.VACUOUS, "contradictory_hypotheses"),
        ("1 = 1", ("x = 1 / 0",), Status.VACUOUS, "contradictory_hypotheses"),
        ("1 = 1", ("x = sqrt(2)",), Status.UNKNOWN, "undecided"),
        ("x / 0 = 1", ("x = 3",), Status.REFUTED, "division_by_zero"),
    ],
)
@pytest.mark.parametrize("expected", [None, False], ids=["no-hint", "hint-false"])
def test_what_the_kernel_says(environment, lean_claim, text, given, status, reason, expected):
    (result,) = environment.check([LeanClaim(lean_claim(text, *given).statement, expected=expected)])
    assert (result.status, result.reason) == (status, reason)
    settled = status in (Status.PROVED, Status.REFUTED, Status.VACUOUS)
    assert result.axioms == (() if settled else None)
    assert bool(result.proof) == settled


def test_a_tolerance_is_kept_exactly(environment, lean_claim):
    tight, wide = Fraction(3, 1000), Fraction(1, 300)
    claims = [lean_claim("10 / 3 ~ 3.33", tolerance=t) for t in (tight, wide)]
    assert [s for s, _ in settle(environment, *claims)] == [Status.REFUTED, Status.PROVED]


def test_order_is_kept_and_equal_claims_are_answered_alike(environment, lean_claim):
    texts = ["1 + 1 = 2", "1 + 1 = 3", "1 / 0 = 1", "1 + 1 = 2", "1 + 1 = 3"] * 60
    results = settle(environment, *(lean_claim(text) for text in texts))
    assert results == [(Status.PROVED, ""), (Status.REFUTED, ""), (Status.REFUTED, "division_by_zero"),
                       (Status.PROVED, ""), (Status.REFUTED, "")] * 60  # fmt: skip


def test_nothing_to_check_starts_nothing(cache_root):
    with EmbeddedEnvironment(cache_root=cache_root) as environment:
        assert environment.check([]) == []
        assert not environment._processes


def raw(sides, hypotheses="nothing"):
    """A statement as if the printer had let it pass."""
    return LeanClaim(Statement(hypotheses, sides))


RUNAWAYS = {
    "tower": "(pow (num 9) (pow (num 9) (num 9))) eq (num 1)",
    "deep-factorial": "(factorial (num 30000000)) eq (num 1)",
    "memory-eater": "(pow (pow (num 2) (num 16000000)) (num 16000000)) eq (num 1)",
    "wide-binomial": "(binomial (num 90000000) (num 45000000)) eq (num 1)",
    "machine-power": "(mul (pow (num 7) (num 16000000)) (pow (num 7) (num 16000000))) eq (num 1)",
}


@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_runaway_costs_only_itself(environment, lean_claim, name):
    """None of these passes the printer; the kernel's bounds are the second line."""
    claims = [lean_claim("2 + 2 = 4"), raw(RUNAWAYS[name]), lean_claim("2 + 2 = 5"), lean_claim("3 + 3 = 6")]
    before, runaway, *after = settle(environment, *claims, seconds=2.0)
    assert before == (Status.PROVED, "")
    assert runaway[0] in (Status.UNKNOWN, Status.ERROR, Status.REFUTED)
    assert after == [(Status.REFUTED, ""), (Status.PROVED, "")]


MALFORMED = [
    "(num 1) eq (num 1",
    "(num 1)) eq (num 1)",
    "(num 1 2) eq (num 1)",
    "(add (num 1)) eq (num 1)",
    "num eq (num 1)",
    "(num 1) eq eq (num 1)",
    "(num 1) (num 1)",
    "(num (num 1)) eq (num 1)",
    "(num 1) eq (num 1) := proved sorry",
    "(sorryAx 1) eq (num 1)",
    "(num −1) eq (num 1)",
    "(num 1) eq",
    "",
    "((num 1)) eq (num 1)",
    "(var eq) eq (num 1)",
    "(num true) eq (num 1)",
]


@pytest.mark.parametrize("sides", MALFORMED)
def test_a_malformed_statement_is_never_proved(environment, lean_claim, sides):
    try:
        malformed, good = settle(environment, raw(sides), lean_claim("1 + 2 = 3"))
    except UnicodeEncodeError:
        return  # not even sent
    assert malformed[0] in (Status.ERROR, Status.UNKNOWN)
    assert good == (Status.PROVED, "")


def test_a_free_name_is_neither_proved_nor_refuted(environment):
    assert settle(environment, raw("(var 0) eq (var 0)"), raw("(var 0) ne (var 0)")) == [
        (Status.UNKNOWN, "undecided"),
        (Status.UNKNOWN, "undecided"),
    ]


def test_a_literal_with_denominator_zero_divides_by_zero(environment):
    assert settle(environment, raw("(ratio 1 0) eq (num 0)")) == [(Status.REFUTED, "division_by_zero")]


def test_a_killed_process_is_replaced_and_its_claim_tried_again(environment, lean_claim):
    settle(environment, lean_claim("1 + 1 = 2"))
    (process,) = environment._processes
    os.kill(process.pid, signal.SIGKILL)
    assert settle(environment, lean_claim("2 + 3 = 5"), lean_claim("2 + 3 = 6")) == [
        (Status.PROVED, ""),
        (Status.REFUTED, ""),
    ]
    assert process.pid is not None


def test_limits_are_for_each_claim_and_not_for_all_together(cache_root, lean_claim):
    """The kernel counts on: left alone, a long-lived process would stop answering."""
    with EmbeddedEnvironment(workers=1, cache_root=cache_root, remember=False) as environment:
        claims = [lean_claim(f"({n} + 1) * 3 = {3 * n + 3}") for n in range(400)]
        claims.insert(50, raw("(factorial (num 3000)) eq (num 1)"))
        results = environment.check(claims, Limits(heartbeats=40))
        statuses = [result.status for result in results]
        assert (statuses.pop(50), results[50].reason) == (Status.UNKNOWN, "timeout")
        assert set(statuses) == {Status.PROVED}


def test_a_process_is_retired_after_a_while(environment, lean_claim, monkeypatch):
    monkeypatch.setattr(kernel, "_RETIRE_AFTER", 1)
    settle(environment, lean_claim("1 + 1 = 2"))
    first = environment._processes[0].pid
    assert settle(environment, lean_claim("1 + 3 = 4")) == [(Status.PROVED, "")]
    assert environment._processes[0].pid != first


def test_an_environment_that_nobody_closed_leaves_no_process(cache_root, lean_claim):
    environment = EmbeddedEnvironment(workers=1, cache_root=cache_root, remember=False)
    settle(environment, lean_claim("1 + 1 = 2"))
    pid = environment._processes[0].pid
    del environment
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_after_a_fork_the_child_starts_its_own_process(environment, lean_claim, monkeypatch):
    settle(environment, lean_claim("1 + 1 = 2"))
    (process,) = environment._processes
    inherited, popen = process.pid, process._process
    monkeypatch.setattr(process, "_owner", os.getpid() + 1)
    assert settle(environment, lean_claim("1 + 4 = 5")) == [(Status.PROVED, "")]
    assert process.pid != inherited
    os.kill(inherited, signal.SIGKILL)  # it was left alone
    os.waitpid(inherited, 0)
    assert popen is not None


def test_two_workers_share_the_claims(cache_root, lean_claim):
    with EmbeddedEnvironment(workers=2, cache_root=cache_root, remember=False) as environment:
        claims = [lean_claim(f"{n} + 1 = {n + 1}") for n in range(250)]
        assert {result.status for result in environment.check(claims)} == {Status.PROVED}
        assert all(process.pid for process in environment._processes)


# A child that misbehaves. It is told what to do by the claim's first number.
IMPOSTOR = """
import os, sys, time
print("ready", flush=True)
while header := sys.stdin.readline():
    lines = [sys.stdin.readline() for _ in range(int(header.split()[1]))]
    for line in lines:
        name, attempts, hypotheses, sides = line.rstrip("\\n").split("\\t")
        what = sides.split()[1].rstrip(")")
        if what == "1": os._exit(3)
        if what == "2": time.sleep(60)
        if what == "3": name = "dp_somebody_else"
        if what == "4": print("ready", flush=True)
        if what == "5": print(name, "accepted", "", sep="\\t", flush=True)
        if what == "7": print(name, "-", "out_of_memory", sep="\\t", flush=True); continue
        if what == "6": sys.stdout.buffer.write(b"\\xff\\xfe\\n"); sys.stdout.flush()
        print(name, "-", "undecided", sep="\\t", flush=True)
"""


@pytest.fixture
def impostor(monkeypatch, tmp_path, prelude):
    script = tmp_path / "child.py"
    script.write_text(IMPOSTOR)
    monkeypatch.setattr(kernel, "CHILD", script)
    process = KernelProcess(prelude, Limits(seconds=0.5))
    yield process
    process.close()


@pytest.mark.parametrize(
    ("what", "reason"),
    [(1, "kernel_crashed"), (2, "timeout"), (3, "protocol_error"), (4, "protocol_error"), (5, "protocol_error"),
     (6, "protocol_error"), (7, "out_of_memory")],
    ids=["dies", "hangs", "answers-for-another", "greets-again", "invents-a-theorem", "garbage", "full"],
)  # fmt: skip
def test_one_poisonous_claim_costs_only_itself(impostor, what, reason):
    numbers = [0, 0, what, 0, what, 0]
    answers = impostor.settle([Request(f"dp_{i}", ("proved",), "nothing", f"(num {n})") for i, n in enumerate(numbers)])
    assert [a.theorem for a in answers] == [None] * 6
    assert [a.reason for a in answers] == ["undecided" if n == 0 else reason for n in numbers]


@pytest.mark.parametrize(
    "script", ["raise SystemExit(1)", "print('good morning', flush=True)"], ids=["dies", "other-words"]
)
def test_a_kernel_that_does_not_start_is_an_error_of_the_machine(monkeypatch, tmp_path, prelude, script):
    child = tmp_path / "child.py"
    child.write_text(script)
    monkeypatch.setattr(kernel, "CHILD", child)
    with pytest.raises(ProofEnvironmentError, match="does not start"):
        KernelProcess(prelude, Limits()).settle([Request("dp_1", ("proved",), "nothing", "(num 1) eq (num 1)")])


@pytest.mark.parametrize(
    "change",
    [
        ('_find = self._function("lean_environment_find"', '_find = self._function("lean_environment_free_regions"'),
        ("if _tag(result) != 1:", "if False:"),
        ('"undecided" if _tag(exception) in', '"kernel_error" if _tag(exception) in'),
        ('return True, ""', 'return False, ""'),
    ],
    ids=["another-function", "accepts-everything", "confuses-failures", "accepts-nothing"],
)
def test_a_driver_that_cannot_tell_true_from_false_does_not_start(monkeypatch, tmp_path, prelude, change):
    source = kernel.CHILD.read_text(encoding="utf-8")
    old, new = change
    assert old in source
    child = tmp_path / "child.py"
    child.write_text(source.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(kernel, "CHILD", child)
    with pytest.raises(ProofEnvironmentError, match="does not start"):
        KernelProcess(prelude, Limits()).settle([Request("dp_1", ("proved",), "nothing", "(num 1) eq (num 1)")])


def test_a_kernel_that_is_silent_at_its_start_is_killed(monkeypatch, tmp_path, prelude):
    child = tmp_path / "child.py"
    child.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(kernel, "CHILD", child)
    monkeypatch.setattr(kernel, "_START_SECONDS", 0.2)
    with pytest.raises(ProofEnvironmentError, match="does not start"):
        KernelProcess(prelude, Limits()).settle([Request("dp_1", ("proved",), "nothing", "(num 1) eq (num 1)")])


def test_a_child_that_closes_its_input_counts_as_dead(monkeypatch, tmp_path, prelude):
    child = tmp_path / "child.py"
    child.write_text("import os, time\nprint('ready', flush=True)\nos.close(0)\ntime.sleep(60)")
    monkeypatch.setattr(kernel, "CHILD", child)
    process = KernelProcess(prelude, Limits(seconds=2.0))
    long = f"(num {'1' * 200_000}) eq (num 1)"  # more than a pipe holds, so that the write itself fails
    assert process.settle([Request("dp_1", ("proved",), "nothing", long)])[0].reason == "kernel_crashed"
    process.close()
    process.close()  # twice is harmless


def test_all_theorems_are_tried_whatever_is_expected():
    assert attempts(True, "nothing") == attempts(None, "nothing") == ("proved", "refuted", "undefined")
    assert attempts(False, "nothing") == ("refuted", "undefined", "proved")
    assert attempts(True, "(given 0 (num 1) nothing)")[-1] == "contradicted"
    assert {*attempts(False, "nothing")} == {*attempts(True, "nothing")}


def test_the_environment_says_what_it_is(environment, prelude):
    assert environment.toolchain.startswith("Lean (version 4.35.0")
    assert environment.prelude_digest == prelude.digest
    assert prelude.digest.startswith("sha256:")
    assert sys.executable
