"""Theorem files: what Lean's messages are worth, and that our claims pass an ordinary `lean` as well."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest

from draftproof.provers import leanfile
from draftproof.provers.environment import CheckResult, Limits, Status
from draftproof.provers.leanfile import HEADER, Report, Theorem, check_file, export
from draftproof.provers.toolchain import EmbeddedLean, LeanRun, Prelude

LIMITS = Limits(seconds=20)
TWO = (Theorem("dp_a", "True", "True.intro"), Theorem("dp_b", "True", "by\nexact True.intro"))
FIRST = HEADER.count("\n") + 1
"""Line of the first theorem; its report is asked for two lines below, the second's four lines further on."""


def message(line, data, severity="information"):
    return json.dumps({"pos": {"line": line, "column": 0}, "severity": severity, "data": data})


def free(name):
    return f"'{name}' does not depend on any axioms"


@pytest.fixture
def lean_says(monkeypatch):
    """Replay runs instead of starting Lean."""

    def replay(*runs):
        queue = [run if isinstance(run, LeanRun) else LeanRun(0, "\n".join(run), "", False) for run in runs]
        texts = []

        def run(self, arguments, **_):
            texts.append(Path(arguments[-1]).read_text(encoding="utf-8"))
            return queue.pop(0)

        monkeypatch.setattr(EmbeddedLean, "run", run)
        return texts

    return replay


@pytest.fixture
def nowhere(tmp_path):
    return Prelude(EmbeddedLean(tmp_path), tmp_path, "sha256:0")


def test_both_pass_on_their_own_reports(lean_says, nowhere):
    texts = lean_says([message(FIRST + 2, free("dp_a")), message(FIRST + 6, free("dp_b"))])
    assert check_file(nowhere, TWO, LIMITS) == [Report(True, (), ()), Report(True, (), ())]
    assert texts == [export(TWO)]
    assert export(TWO).splitlines()[FIRST + 1] == "#print axioms dp_a"
    assert export(TWO).splitlines()[FIRST + 5] == "#print axioms dp_b"


@pytest.mark.parametrize(
    ("messages", "reason", "axioms"),
    [
        ([], "no_axiom_report", None),
        ([message(FIRST + 2, free("dp_c"))], "no_axiom_report", None),
        ([message(FIRST + 1, free("dp_a"))], "no_axiom_report", None),
        ([message(FIRST + 2, free("dp_a"))] * 2, "no_axiom_report", None),
        ([message(FIRST + 2, free("dp_a"), "warning")], "no_axiom_report", None),
        ([message(FIRST + 2, free("dp_a")), message(FIRST, "bad", "error")], "not_proved", ()),
        ([message(FIRST + 2, free("dp_a")), "not json"], "not_proved", ()),
        ([message(FIRST + 2, free("dp_a")), json.dumps({"data": "no place"})], "not_proved", ()),
        ([message(FIRST + 2, "'dp_a' depends on axioms: [sorryAx]")], "axioms", ("sorryAx",)),
        ([message(FIRST + 2, "'dp_a' depends on axioms: [dp_a]")], "axioms", ("dp_a",)),
        ([message(FIRST + 2, "'dp_a' depends on axioms: [a, b]")], "axioms", ("a", "b")),
        ([message(FIRST + 2, "'dp_a' depends on axioms: []")], "axioms", ("",)),
        ([message(FIRST + 2, "'dp_a' depends on nothing much")], "axioms", None),
        ([message(FIRST + 2, free("dp_a") + ", honestly")], "axioms", None),
        ([message(FIRST + 2, "'dp_a' is fine, depends on axioms: [x]")], "axioms", None),
        ([message(FIRST + 2, "'dp_a' depends on axioms: [x")], "axioms", None),
    ],
)
def test_anything_less_than_its_own_clean_report_is_a_failure(lean_says, nowhere, messages, reason, axioms):
    lean_says([*messages, message(FIRST + 6, free("dp_b"))])
    first, second = check_file(nowhere, TWO, LIMITS)
    assert (first.passed, first.reason, first.axioms) == (False, reason, axioms)
    unreadable = any("pos" not in text for text in messages)  # such a line counts against the whole file
    assert second.passed is not unreadable


def test_an_error_anywhere_fails_a_theorem_that_is_alone(lean_says, nowhere):
    lean_says([message(FIRST + 2, free("dp_a")), message(99, "outside its lines", "error")])
    assert not check_file(nowhere, TWO[:1], LIMITS)[0].passed


def test_a_file_that_dies_is_halved_until_the_culprit_stands_alone(lean_says, nowhere):
    dead = LeanRun(139, "", "segmentation fault", False)
    texts = lean_says(dead, [message(FIRST + 2, free("dp_a"))], LeanRun(-9, "", "", True))
    assert [r.reason for r in check_file(nowhere, TWO, LIMITS)] == ["", "timeout"]
    assert [text.count("theorem") for text in texts] == [2, 1, 1]
    lean_says(dead)
    assert check_file(nowhere, TWO[:1], LIMITS) == [Report(False, None, ("segmentation fault",), "lean_crashed")]


def test_no_theorems_no_file(nowhere):
    assert check_file(nowhere, [], LIMITS) == []


@pytest.mark.lean
def test_one_bad_among_many_good(prelude):
    good = [Theorem(f"dp_{n}", f"Holds nothing (num {n}) eq (num {n})", "proved (Eq.refl true)") for n in range(30)]
    bad = Theorem("dp_bad", "Holds nothing (num 1) eq (num 2)", "proved (Eq.refl true)")
    reports = check_file(prelude, [*good[:15], bad, *good[15:]], LIMITS)
    assert [report.passed for report in reports] == [True] * 15 + [False] + [True] * 15


@pytest.mark.lean
def test_a_name_that_is_taken_fails_both_claims(prelude):
    twice = Theorem("dp_1", "True", "True.intro")
    assert [r.passed for r in check_file(prelude, [twice, twice], LIMITS)] == [False, False]


@pytest.mark.lean
def test_a_runaway_is_stopped_and_the_next_claim_is_fine(prelude):
    runaway = Theorem("dp_1", "Nat.factorial (Nat.pow 9 9) = 0", "by decide +kernel")
    (report,) = check_file(prelude, [runaway], Limits(seconds=3, heartbeats=2000))
    assert not report.passed
    assert check_file(prelude, [Theorem("dp_2", "True", "True.intro")], LIMITS)[0].passed


CLAIMS = [
    ("48 / 2 = 24", ()), ("48 / 2 = 25", ()), ("1 / 0 = 3", ()), ("0.15 * 240 = 36", ()), ("3 < 2", ()), ("2 > 1", ()),
    ("2 >= 3", ()), ("2 <= 3", ()), ("2 != 2", ()), ("x - y = 1", ("x = 3", "y = 2")), ("x = 1", ("x = 1", "x = 2")),
    ("factorial(6) = 720", ()), ("binomial(6, 3) = 20", ()), ("gcd(12, 18) = 6", ()), ("lcm(4, 6) = 12", ()),
    ("mod(17, 5) = 2", ()), ("sqrt(16) - abs(-4) = 0", ()), ("floor(2.5) = ceil(1.5)", ()), ("2 ** 0.5 = 1", ()),
    ("-1 < -2", ()), ("factorial(1000) > 10 ** 900", ()), ("binomial(600, 300) / 7 ** 50 < 1", ()),
]  # fmt: skip


@pytest.mark.lean
def test_what_the_kernel_settled_passes_as_text_too(environment, prelude, lean_claim, tmp_path):
    """The processes that drive the kernel read the very text that a person would check."""
    claims = [lean_claim(text, *given) for text, given in CLAIMS]
    claims.append(lean_claim("10 / 3 ~ 3.33", tolerance=Fraction(1, 100)))
    results = environment.check(claims)
    settled = [(c.statement, r) for c, r in zip(claims, results, strict=True) if r.status is not Status.UNKNOWN]
    assert len(settled) == len(claims) - 1
    file = tmp_path / "Exported.lean"
    file.write_text(environment.export([(c.statement, r) for c, r in zip(claims, results, strict=True)]), "utf-8")
    run = prelude.lean.run([str(file)], modules=prelude.modules, seconds=60)
    assert run.status == 0, run.stdout
    reports = run.stdout.splitlines()
    assert len(reports) == len(settled)
    assert all(report.endswith("does not depend on any axioms") for report in reports)


@pytest.mark.lean
def test_random_claims_pass_as_text_too(environment, prelude, lean_claim, tmp_path):
    """The driver's reading of a statement and the front end's are the same reading."""
    numbers = random.Random(20)

    def tree(depth):
        if depth == 0:
            return str(numbers.choice((numbers.randint(0, 99), numbers.randint(1, 999) / 100)))
        left, right = tree(depth - 1), tree(numbers.randrange(depth))
        form = numbers.choice(("({} + {})", "({} - {})", "({} * {})", "({} / {})", "gcd(floor({}), ceil({}))"))
        return numbers.choice(("", "-")) + form.format(left, right)

    relations = ("=", "!=", "<", "<=", ">", ">=")
    claims = [lean_claim(f"{tree(3)} {numbers.choice(relations)} {tree(2)}") for _ in range(60)]
    results = environment.check(claims)
    assert {result.status for result in results} == {Status.PROVED, Status.REFUTED}
    file = tmp_path / "Exported.lean"
    file.write_text(environment.export([(c.statement, r) for c, r in zip(claims, results, strict=True)]), "utf-8")
    run = prelude.lean.run([str(file)], modules=prelude.modules, seconds=60)
    assert (run.status, run.stdout.count("does not depend on any axioms\n")) == (0, 60), run.stdout


@pytest.mark.lean
def test_the_opposite_of_what_the_kernel_settled_does_not_pass(environment, prelude, lean_claim):
    theorems = []
    for text, given in CLAIMS:
        statement = lean_claim(text, *given).statement
        (result,) = environment.check([lean_claim(text, *given)])
        theorem = "refuted" if result.status is Status.PROVED else "proved"
        proposition = statement.negation if theorem == "refuted" else statement.text
        theorems.append(Theorem(f"dp_{len(theorems)}", proposition, f"{theorem} (by decide +kernel)"))
    assert not any(report.passed for report in check_file(prelude, theorems, LIMITS))


def test_only_settled_claims_are_exported(nowhere):
    from draftproof.provers.embedded import EmbeddedEnvironment
    from draftproof.provers.statement import Statement

    statement = Statement("nothing", "(num 1) eq (num 1)")
    environment = EmbeddedEnvironment()
    assert environment.export([(statement, CheckResult(Status.UNKNOWN))]) == HEADER
    assert leanfile.export([]) == HEADER
