"""The library itself: free of axioms, in agreement with the machine, and closed against redefinition."""

from __future__ import annotations

import pytest

from draftproof.provers import bindings
from draftproof.provers.environment import Limits
from draftproof.provers.kernel_child import VOCABULARY
from draftproof.provers.leanfile import HEADER, Theorem, check_file
from draftproof.provers.toolchain import MODULES, PRELUDE

pytestmark = pytest.mark.lean

ACCELERATED = """
    Nat.add Nat.sub Nat.mul Nat.div Nat.mod Nat.gcd Nat.beq Nat.ble Nat.pow Nat.log2 Nat.land Nat.lor Nat.xor
    Nat.shiftLeft Nat.shiftRight
""".split()  # noqa: SIM905
"""What the kernel computes by name, without looking at definitions."""


def lean(prelude, tmp_path, text):
    file = tmp_path / "Test.lean"
    file.write_text(text, encoding="utf-8")
    return prelude.lean.run([str(file)], modules=prelude.modules, seconds=60)


def test_no_constant_of_ours_rests_on_an_axiom(prelude, tmp_path):
    theorems = [
        line.split()[1].split("{")[0].split("(")[0].rstrip(":")
        for module in MODULES
        for line in (PRELUDE / f"{module}.lean").read_text(encoding="utf-8").splitlines()
        if line.startswith("theorem ")
    ]
    assert len(theorems) > 50
    names = [*VOCABULARY, *theorems, *ACCELERATED]
    run = lean(prelude, tmp_path, HEADER + "".join(f"#print axioms {name}\n" for name in names))
    assert run.status == 0, run.stdout
    reports = run.stdout.splitlines()
    assert len(reports) == len(names)
    assert all(report.endswith("does not depend on any axioms") for report in reports)


def test_an_axiom_report_can_come_out_otherwise(prelude, tmp_path):
    run = lean(prelude, tmp_path, HEADER + "theorem t : False := sorryAx False true\n#print axioms t\n")
    assert "'t' depends on axioms: [sorryAx]" in run.stdout


@pytest.mark.parametrize("name", ACCELERATED)
def test_an_accelerated_function_cannot_be_redefined(prelude, tmp_path, name):
    run = lean(prelude, tmp_path, f"prelude\nimport Draftproof.Claims\ndef {name} (a b : Nat) : Nat := 0\n")
    assert run.status == 1
    assert "has already been declared" in run.stdout


def test_what_a_missing_definition_would_allow(prelude, tmp_path):
    """Without `Nat.land` in the library, whoever defines it proves a falsehood, and the axiom report is clean."""
    numbers = (PRELUDE / "Numbers.lean").read_text(encoding="utf-8")
    ours = "def Nat.land (a b : Nat) : Nat := Nat.bitsFuel Nat.andBit (Nat.add a b) a b\n"
    assert ours in numbers
    theirs = "def Nat.land (a b : Nat) : Nat := 0\n"
    attack = (
        "theorem unfolded (a b : Nat) : Eq (Nat.land a b) 0 := rfl\n"
        "theorem computed : Eq (Nat.land 12 10) 8 := rfl\n"
        "theorem t : Eq 8 0 := Eq.trans (Eq.symm computed) (unfolded 12 10)\n#print axioms t\n"
    )
    assert lean(prelude, tmp_path, numbers.replace(ours, theirs) + attack).stdout.endswith(
        "'t' does not depend on any axioms\n"
    )
    assert lean(prelude, tmp_path, numbers + attack).status == 1


SMALL = range(0, 14, 3)
UNFOLDED = {
    # the machine's answer, and the same by unfolding a helper that it does not know by name
    "Nat.div": "cond (Nat.beq {b} 0) 0 (Nat.divFuel {b} {a} {a})",
    "Nat.mod": "Nat.sub {a} (Nat.mul {b} (cond (Nat.beq {b} 0) 0 (Nat.divFuel {b} {a} {a})))",
    "Nat.gcd": "Nat.gcdFuel (Nat.succ {a}) {a} {b}",
    "Nat.land": "Nat.bitsFuel Nat.andBit (Nat.add {a} {b}) {a} {b}",
    "Nat.lor": "Nat.bitsFuel Nat.orBit (Nat.add {a} {b}) {a} {b}",
    "Nat.xor": "Nat.bitsFuel Nat.xorBit (Nat.add {a} {b}) {a} {b}",
    "Nat.shiftLeft": "Nat.mul {a} (Nat.pow 2 {b})",
    "Nat.shiftRight": "Nat.div {a} (Nat.pow 2 {b})",
}
PYTHON = {
    "Nat.div": lambda a, b: a // b if b else 0,
    "Nat.mod": lambda a, b: a % b if b else a,
    "Nat.gcd": lambda a, b: __import__("math").gcd(a, b),
    "Nat.land": lambda a, b: a & b,
    "Nat.lor": lambda a, b: a | b,
    "Nat.xor": lambda a, b: a ^ b,
    "Nat.shiftLeft": lambda a, b: a << b,
    "Nat.shiftRight": lambda a, b: a >> b,
}


def test_definitions_say_what_the_machine_computes(prelude):
    """Both are decided by the kernel alone: by the machine under the known name, by unfolding under the other."""
    theorems = []
    for name, unfolded in UNFOLDED.items():
        for a in SMALL:
            for b in SMALL:
                value = PYTHON[name](a, b)
                number = len(theorems)
                theorems.append(Theorem(f"machine{number}", f"{name} {a} {b} = {value}", "by decide +kernel"))
                helper = unfolded.format(a=a, b=b)
                theorems.append(Theorem(f"unfolded{number}", f"{helper} = {value}", "by decide +kernel"))
    for a in range(9):
        value = max(a.bit_length() - 1, 0)
        theorems.append(Theorem(f"log{a}", f"Nat.log2 {a} = {value}", "by decide +kernel"))
        theorems.append(Theorem(f"logFuel{a}", f"Nat.log2Fuel {a} {a} = {value}", "by decide +kernel"))
    reports = check_file(prelude, theorems, Limits(seconds=60))
    wrong = [t.proposition for t, report in zip(theorems, reports, strict=True) if not report.passed]
    assert wrong == []


def test_recursive_laws_of_the_accelerated_functions_hold_by_definition(prelude):
    laws = [
        "(a b : Nat) → Nat.add a (Nat.succ b) = Nat.succ (Nat.add a b)",
        "(a b : Nat) → Nat.mul a (Nat.succ b) = Nat.add (Nat.mul a b) a",
        "(a b : Nat) → Nat.pow a (Nat.succ b) = Nat.mul (Nat.pow a b) a",
        "(a b : Nat) → Nat.sub a (Nat.succ b) = Nat.pred (Nat.sub a b)",
        "(a b : Nat) → Nat.beq (Nat.succ a) (Nat.succ b) = Nat.beq a b",
        "(a b : Nat) → Nat.ble (Nat.succ a) (Nat.succ b) = Nat.ble a b",
    ]
    theorems = [Theorem(f"law{i}", law, "fun _ _ => rfl") for i, law in enumerate(laws)]
    wrong = Theorem("wrong", "(a b : Nat) → Nat.add a (Nat.succ b) = Nat.add a b", "fun _ _ => rfl")
    *reports, bad = check_file(prelude, [*theorems, wrong], Limits(seconds=60))
    assert all(report.passed for report in reports)
    assert not bad.passed


@pytest.mark.parametrize("tactic", ["native_decide", "simp", "omega", "run_tac skip", "norm_num", "linarith", "sorry"])
def test_unbound_tactics_cannot_be_written(prelude, tmp_path, tactic):
    run = lean(prelude, tmp_path, HEADER + f"theorem t : (2 : Nat) = 2 := by {tactic}\n")
    assert run.status == 1
    assert "unknown tactic" in run.stdout or "expected" in run.stdout


@pytest.mark.parametrize(
    "theorem",
    [
        "t : (48 : Rat) / 2 = 24 := by decide",
        "t : (0.15 : Rat) * 240 = 36 := by decide",
        "t : (5 : Int) - 17 = -12 := by decide",
        "t : (17 : Int) % 5 = 2 ∧ (12 : Int) ∣ 144 := by constructor <;> decide",
        "t (x h : Rat) (a : x = 48) (b : h = x / 2) : h = 24 := by rw [b, a]; decide",
        "t : ¬ ((48 : Rat) / 2 = 25) := by decide",
    ],
)
def test_ordinary_notation_and_tactics_work(prelude, tmp_path, theorem):
    run = lean(prelude, tmp_path, HEADER + f"theorem {theorem}\n#print axioms t\n")
    assert (run.status, run.stdout) == (0, "'t' does not depend on any axioms\n")


def test_the_bindings_in_the_repository_are_what_the_script_prints(prelude):
    assert bindings.bindings(prelude.lean.exports) == (PRELUDE / "Bindings.lean").read_text(encoding="utf-8")


def test_a_missing_symbol_is_named():
    with pytest.raises(LookupError, match="l_term___x2b__"):
        bindings.bindings(lambda _: False)
    with pytest.raises(LookupError, match="boxed"):
        bindings.bindings(lambda symbol: not symbol.endswith("boxed"))


def test_names_are_mangled_as_lean_does():
    assert bindings.mangle(("term_≠_",)) == "l_term___u2260__"
    assert bindings.mangle(("term¬_",)) == "l_term_xac__"
    assert bindings.mangle(("Lean", "Parser", "Tactic", "exact")) == "l_Lean_Parser_Tactic_exact"
