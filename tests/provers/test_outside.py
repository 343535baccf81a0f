"""Proofs by outsiders: every trick that makes Lean accept a false statement, or seem to. None may pass."""

from __future__ import annotations

import pytest

from draftproof.errors import DisagreementError
from draftproof.provers import embedded
from draftproof.provers.environment import CheckResult, Limits, Status
from draftproof.provers.leanfile import Theorem, check_file
from draftproof.provers.screen import refusal

pytestmark = pytest.mark.lean

EXPLOITS = {
    "sorry": "sorry",
    "sorry-tactic": "by sorry",
    "admit": "by admit",
    "sorryAx": "sorryAx _ true",
    "sorryAx-explicit": "@sorryAx.{0} _ false",
    "placeholder": "proved (by exact _)",
    "wrong-refl": "proved (Eq.refl true)",
    "wrong-rfl": "proved rfl",
    "decide": "by decide",
    "native-decide": "proved (by native_decide)",
    "decide-native-option": "proved (by decide (config := { native := true }))",
    "kernel-option": "proved (by decide +kernel)",
    "kernel-option-spaced": "proved (by decide + kernel)",
    "skip-kernel-term": "set_option debug.skipKernelTC true in proved (by decide +kernel)",
    "skip-kernel-tactic": "by set_option debug.skipKernelTC true in exact proved (by decide +kernel)",
    "skip-kernel-only": "set_option debug.skipKernelTC true in proved (Eq.refl true)",
    "skip-kernel-wide-letters": "ｓｅｔ_ｏｐｔｉｏｎ debug.skipKernelTC true in proved (Eq.refl true)",
    "by-as-sorry": "set_option debug.byAsSorry true in proved (by rfl)",
    "axiom-on-the-line": "cheat axiom cheat : False",
    "axiom-before-use": "proved rfl axiom foo : False theorem x : 1 = 2 := foo.elim",
    "axiom-next-line": "foo\naxiom foo : False",
    "axiom-indented": "foo\n  axiom foo : False",
    "exit": "proved rfl #exit",
    "exit-indented": "proved rfl\n  #exit",
    "open-comment": "proved rfl /-",
    "line-comment": "proved rfl --",
    "comment-around-report": "proved rfl /- x",
    "second-theorem": "True.intro theorem other : True := True.intro",
    "fake-report": 'proved rfl\n#eval "does not depend on any axioms"',
    "print-axioms-of-another": "proved rfl\n#print axioms proved",
    "local-notation": 'x\nlocal notation "x" => sorry',
    "macro": 'x macro "x" : term => `(sorry)',
    "instance": "proved rfl instance : OfNat Nat 25 := ⟨24⟩",
    "open-namespace": "open Lean in proved rfl",
    "attribute": "by attribute [reducible] Draftproof.Holds; exact proved rfl",
    "unsafe-term": "unsafe lcProof",
    "lcProof": "lcProof",
    "let-unsafe": "unsafeCast True.intro",
    "implemented-by": "let rec f : False := f; f.elim",
    "run-tac": "by run_tac skip",
    "eval": "by eval",
    "false-elim-hole": "False.elim ?_",
    "absurd": "absurd rfl (fun h => h)",
    "type-ascription": "(True.intro : True)",
    "undefined-name": "magic",
    "nonterminating": "let rec loop (n : Nat) : Holds nothing (num 1) eq (num 2) := loop n; loop 0",
    "unbalanced": "proved (Eq.refl true",
    "closing-first": "proved) (rfl",
    "mixed-brackets": "proved (Eq.refl ⟨true)⟩",
    "zero-width": "so\u200brry",
    "right-to-left": "proved \u202erfl",
    "nul": "proved rfl\0",
    "carriage-return": "proved rfl\raxiom foo : False",
    "line-separator": "proved rfl\u2028axiom foo : False",
    "tab-command": "proved rfl\n\taxiom foo : False",
    "quoted-name": "«sorry»",
    "guillemets-axiom": "«sorryAx» _ true",
    "string": '(fun (s : String) => proved rfl) "x"',
    "interpolation": "`(sorry)",
    "surrogate": "proved \ud800",
    "too-long": "proved " + "(" * 15_000 + "rfl" + ")" * 15_000,
    "empty": "",
    "blank": "  \n ",
    "end-of-namespace": "proved rfl\nend Draftproof",
    "deriving": "proved rfl deriving Foo",
    "refuted-instead": "refuted (Eq.refl true)",
    "contradiction": "by contradiction",
    "cases-on-nothing": "by exact (fun (h : False) => h.elim) (by assumption)",
    "first-alternative": "by first | exact sorry | exact magic",
    "try-nothing": "by try rfl",
    "deep": "proved " + "(" * 3000 + "rfl" + ")" * 3000,
}
FALSE = "48 / 2 = 25"


@pytest.mark.parametrize("name", EXPLOITS)
def test_no_trick_proves_a_false_claim(environment, lean_claim, name):
    (result,) = environment.check([lean_claim(FALSE, proof=EXPLOITS[name])], Limits(seconds=20))
    assert result.status in (Status.UNKNOWN, Status.ERROR)
    assert result.proof is None


def test_there_are_many_tricks_and_each_is_another():
    assert len(set(EXPLOITS.values())) == len(EXPLOITS) >= 40


UNSCREENED = [
    "sorry", "sorryAx", "wrong-refl", "decide", "native-decide", "axiom-next-line", "exit-indented", "open-comment",
    "second-theorem", "print-axioms-of-another", "refuted-instead", "by-as-sorry", "axiom-on-the-line", "try-nothing",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSCREENED)
def test_the_axiom_report_catches_most_of_them_without_the_screen(prelude, lean_claim, name):
    theorem = Theorem("dp_0123456789abcdef_1", lean_claim(FALSE).statement.text, EXPLOITS[name])
    (report,) = check_file(prelude, [theorem], Limits(seconds=20))
    assert not report.passed


def test_why_the_screen_is_needed_too(prelude, lean_claim):
    """With the kernel's check switched off by the text itself, even the axiom report is clean."""
    proof = "set_option debug.skipKernelTC true in proved (by decide +kernel)"
    (report,) = check_file(prelude, [Theorem("dp_x_1", lean_claim(FALSE).statement.text, proof)], Limits(seconds=20))
    assert report.passed  # Lean is content, without a single axiom;
    assert refusal(proof) == "forbidden_word"  # so Lean is never asked


HONEST = {
    "term": "proved (Eq.refl true)",
    "rfl": "proved rfl",
    "tactic": "by exact proved rfl",
    "steps": "by\n  apply proved\n  rfl",
    "anonymous": "⟨⟨fun _ => 0, True.intro⟩, fun _ _ => rfl⟩",
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_proof_is_accepted(environment, lean_claim, name):
    (result,) = environment.check([lean_claim("48 / 2 = 24", proof=HONEST[name])], Limits(seconds=20))
    assert (result.status, result.axioms, result.proof) == (Status.PROVED, (), HONEST[name])


def test_contradictory_hypotheses_prove_nothing_even_to_an_outsider(environment, lean_claim):
    """`Holds` itself asks for an assignment that meets the hypotheses."""
    proof = "proved (Eq.refl true)"
    (result,) = environment.check([lean_claim("1 = 2", "x = 1", "x = 2", proof=proof)], Limits(seconds=20))
    assert result.status is Status.UNKNOWN


def test_an_outside_proof_that_we_refute_stops_everything(environment, lean_claim, monkeypatch):
    refuted = CheckResult(Status.REFUTED)
    monkeypatch.setattr(type(environment), "_settled", lambda self, claims, limits: dict.fromkeys(claims, refuted))
    with pytest.raises(DisagreementError, match="outside proof"):
        environment.check([lean_claim("48 / 2 = 24", proof="proved rfl")], Limits(seconds=20))


def test_a_crash_of_lean_is_an_error_and_not_an_answer(environment, lean_claim, monkeypatch):
    crash = embedded.leanfile.Report(False, None, (), "lean_crashed")
    monkeypatch.setattr(embedded.leanfile, "check_file", lambda *_: [crash])
    (result,) = environment.check([lean_claim("48 / 2 = 24", proof="proved rfl")])
    assert (result.status, result.reason) == (Status.ERROR, "lean_crashed")


@pytest.mark.parametrize(
    ("proof", "reason"),
    [
        ("x" * 20_001, "too_long"),
        (" ", "empty"),
        ("\ud800", "not_unicode"),
        ("proved\trfl", "control_character"),
        ("proved rfl --", "comment"),
        ("proved #x", "forbidden_character"),
        ("by decide + kernel", "forbidden_word"),
        ("Lean.reduceBool x", "forbidden_word"),
        ("proved\nrfl", "starts_in_column_0"),
        ("(⟨)⟩", "unbalanced"),
        ("((", "unbalanced"),
        (")", "unbalanced"),
    ],
)
def test_the_screen_says_why(proof, reason):
    assert refusal(proof) == reason
