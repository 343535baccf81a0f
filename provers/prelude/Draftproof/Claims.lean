/-
Chapter 5. Claims, what they mean, and the theorems that computations settle them by.

A claim compares two terms under hypotheses that give values to names. This file says when such a claim
holds, gives Boolean tests for it, and proves that the tests can be believed. A step of a solution is
then checked by one line,

    theorem dp : Holds nothing (div (num 48) (num 2)) eq (num 24) := proved (Eq.refl true)

in which the kernel's only work is to compute the test with big numbers.

To believe such a line one has to read `Term`, `value` (what a term is worth), `Relation`, `compare`
(what a relation says), `Meets` and `Holds`. The tests and the proofs need no reading: the kernel has.
-/
prelude
import Draftproof.Bindings
set_option genCtorIdx false
set_option autoImplicit false
set_option linter.unusedVariables false
set_option bootstrap.genMatcherCode false
noncomputable section
namespace Draftproof

/-! ## Terms and their values -/

inductive Term : Type where
  | num (n : Nat)
  | ratio (n d : Nat)
  | var (name : Nat)
  | neg (a : Term)
  | add (a b : Term)
  | sub (a b : Term)
  | mul (a b : Term)
  | div (a b : Term)
  | pow (a b : Term)
  | abs (a : Term)
  | factorial (a : Term)
  | binomial (a b : Term)
  | sqrt (a : Term)
  | floor (a : Term)
  | ceil (a : Term)
  | gcd (a b : Term)
  | lcm (a b : Term)
  | mod (a b : Term)

/-- What a term is worth. `divided` says that a division by zero occurs in it: no reading gives it a
value, and a claim about it is wrong. `beyond` says that the rationals cannot tell (`sqrt 2`, `2 ^ (1/2)`,
a name without a value): it may well have a value elsewhere, so nothing follows in either direction. -/
inductive Value : Type where
  | is (q : Rat)
  | divided
  | beyond

/-- A function of one number, applied to a value. -/
def Value.map (f : Rat → Value) : Value → Value
  | .is a => f a
  | .divided => .divided
  | .beyond => .beyond

/-- A function of two numbers, applied to values; a division by zero on either side decides. -/
def Value.map₂ (f : Rat → Rat → Value) : Value → Value → Value
  | .is a, .is b => f a b
  | .divided, _ => .divided
  | .is _, .divided => .divided
  | .beyond, .divided => .divided
  | .is _, .beyond => .beyond
  | .beyond, .is _ => .beyond
  | .beyond, .beyond => .beyond

/-- `f` of the integer that `a` is, if it is one. -/
def ofInteger (a : Rat) (f : Int → Value) : Value := cond (Nat.beq a.den 1) (f a.num) .beyond
/-- `f` of the natural number that `a` is, if it is one. -/
def ofNatural (a : Rat) (f : Nat → Value) : Value :=
  ofInteger a fun n => match n with
    | Int.ofNat n => f n
    | Int.negSucc _ => .beyond
def isZero (a : Rat) : Bool := Nat.beq (Int.natAbs a.num) 0

def ratioOf (n d : Nat) : Value := cond (Nat.beq d 0) .divided (.is (Rat.make (Int.ofNat n) d))
def divide (a b : Rat) : Value := cond (isZero b) .divided (.is (Rat.div a b))
/-- Integer exponents only. `0` to a negative power divides by zero; `0 ^ 0` is left open, for conventions differ. -/
def power (a b : Rat) : Value :=
  ofInteger b fun n => match n with
    | Int.ofNat n => cond (and (isZero a) (Nat.beq n 0)) .beyond (.is (Rat.pow a n))
    | Int.negSucc n => cond (isZero a) .divided (.is (Rat.inv (Rat.pow a (Nat.succ n))))
def factorialOf (a : Rat) : Value := ofNatural a fun n => .is (Rat.ofNat (Nat.factorial n))
def binomialOf (a b : Rat) : Value := ofNatural a fun n => ofNatural b fun k => .is (Rat.ofNat (Nat.binomial n k))
/-- Of squares only: the value is a number whose square was compared with the argument's. -/
def rootOf (a : Rat) : Value :=
  match a.num with
  | Int.ofNat n =>
    cond (and (Nat.beq (Nat.mul (Nat.root n) (Nat.root n)) n) (Nat.beq (Nat.mul (Nat.root a.den) (Nat.root a.den)) a.den))
      (.is (Rat.mk (Int.ofNat (Nat.root n)) (Nat.root a.den))) .beyond
  | Int.negSucc _ => .beyond
def floorOf (a : Rat) : Value := .is (Rat.ofInt (Rat.floor a))
def ceilOf (a : Rat) : Value := .is (Rat.ofInt (Int.neg (Rat.floor (Rat.neg a))))
def gcdOf (a b : Rat) : Value :=
  ofInteger a fun m => ofInteger b fun n => .is (Rat.ofNat (Nat.gcd (Int.natAbs m) (Int.natAbs n)))
/-- `|a b| / gcd(a, b)`; `lcm(0, 0) = 0`, since `0 / 0` is 0 among naturals. -/
def lcmOf (a b : Rat) : Value :=
  ofInteger a fun m => ofInteger b fun n =>
    .is (Rat.ofNat (Nat.div (Nat.mul (Int.natAbs m) (Int.natAbs n)) (Nat.gcd (Int.natAbs m) (Int.natAbs n))))
/-- Remainder in `[0, b)` for an integer `b > 0`; for other moduli conventions differ. -/
def modOf (a b : Rat) : Value :=
  ofInteger a fun m => ofNatural b fun n => cond (Nat.beq n 0) .beyond (.is (Rat.ofInt (Int.mod m (Int.ofNat n))))

/-- The value of a term when names have the values `names`. -/
def value (names : Nat → Value) : Term → Value
  | .num n => .is (Rat.ofNat n)
  | .ratio n d => ratioOf n d
  | .var x => names x
  | .neg a => (value names a).map fun x => .is (Rat.neg x)
  | .add a b => (value names a).map₂ (fun x y => .is (Rat.add x y)) (value names b)
  | .sub a b => (value names a).map₂ (fun x y => .is (Rat.sub x y)) (value names b)
  | .mul a b => (value names a).map₂ (fun x y => .is (Rat.mul x y)) (value names b)
  | .div a b => (value names a).map₂ divide (value names b)
  | .pow a b => (value names a).map₂ power (value names b)
  | .abs a => (value names a).map fun x => .is (Rat.abs x)
  | .factorial a => (value names a).map factorialOf
  | .binomial a b => (value names a).map₂ binomialOf (value names b)
  | .sqrt a => (value names a).map rootOf
  | .floor a => (value names a).map floorOf
  | .ceil a => (value names a).map ceilOf
  | .gcd a b => (value names a).map₂ gcdOf (value names b)
  | .lcm a b => (value names a).map₂ lcmOf (value names b)
  | .mod a b => (value names a).map₂ modOf (value names b)

/-! ## Claims -/

inductive Relation : Type where
  | eq
  | ne
  | lt
  | le
  | gt
  | ge
  /-- The sides differ by at most `n / d`. -/
  | about (n d : Nat)

/-- What a relation says of two numbers. -/
def compare : Relation → Rat → Rat → Prop
  | .eq, a, b => Eq a b
  | .ne, a, b => Not (Eq a b)
  | .lt, a, b => Rat.lt a b
  | .le, a, b => Rat.le a b
  | .gt, a, b => Rat.lt b a
  | .ge, a, b => Rat.le b a
  | .about n d, a, b => Rat.le (Rat.abs (Rat.sub a b)) (Rat.make (Int.ofNat n) d)

/-- What a relation says of two values: they must both be numbers. -/
def Related (r : Relation) : Value → Value → Prop
  | .is a, .is b => compare r a b
  | .is _, .divided => False
  | .is _, .beyond => False
  | .divided, _ => False
  | .beyond, _ => False

/-- `given x t rest` says that the name `x` stands for the value of `t`, a term without names. -/
inductive Hypotheses : Type where
  | nothing
  | given (name : Nat) (term : Term) (rest : Hypotheses)

/-- No name has a value. -/
def unnamed (_ : Nat) : Value := .beyond
/-- Every name has the number that an assignment gives it. -/
def assigned (assignment : Nat → Rat) (name : Nat) : Value := .is (assignment name)

/-- An assignment of numbers to names meets the hypotheses. -/
def Meets (assignment : Nat → Rat) : Hypotheses → Prop
  | .nothing => True
  | .given x t rest => And (Eq (value unnamed t) (.is (assignment x))) (Meets assignment rest)

/-- The claim holds: some assignment meets the hypotheses (else anything would follow from them), and
under every assignment that does, both sides have values and the values are related. -/
structure Holds (hypotheses : Hypotheses) (left : Term) (relation : Relation) (right : Term) : Prop where
  possible : Exists fun assignment => Meets assignment hypotheses
  always : (assignment : Nat → Rat) → Meets assignment hypotheses →
    Related relation (value (assigned assignment) left) (value (assigned assignment) right)

/-- No assignment meets the hypotheses. -/
def Contradictory (hypotheses : Hypotheses) : Prop := Not (Exists fun assignment => Meets assignment hypotheses)

/-! ## The same values, computed faster

`value` is written to be read; the kernel takes its time over the bookkeeping that pattern matching leaves
behind. `compute` is the same function in bare recursors, and `compute_eq` proves it. -/

def mapped (f : Rat → Value) (u : Value) : Value := @Value.rec (fun _ => Value) f .divided .beyond u
def mapped₂ (f : Rat → Rat → Value) (u v : Value) : Value :=
  @Value.rec (fun _ => Value)
    (fun a => mapped (f a) v)
    .divided
    (mapped (fun _ => .beyond) v) u
-- One definition a case: the kernel copies the body of an anonymous function wherever it passes it on.
def sumOf (a b : Rat) : Value := .is (Rat.add a b)
def differenceOf (a b : Rat) : Value := .is (Rat.sub a b)
def productOf (a b : Rat) : Value := .is (Rat.mul a b)
def caseNum (n : Nat) : Value := .is (Rat.ofNat n)
def caseNeg (_ : Term) (a : Value) : Value := mapped (fun x => .is (Rat.neg x)) a
def caseAdd (_ _ : Term) (a b : Value) : Value := mapped₂ sumOf a b
def caseSub (_ _ : Term) (a b : Value) : Value := mapped₂ differenceOf a b
def caseMul (_ _ : Term) (a b : Value) : Value := mapped₂ productOf a b
def caseDiv (_ _ : Term) (a b : Value) : Value := mapped₂ divide a b
def casePow (_ _ : Term) (a b : Value) : Value := mapped₂ power a b
def caseAbs (_ : Term) (a : Value) : Value := mapped (fun x => .is (Rat.abs x)) a
def caseFactorial (_ : Term) (a : Value) : Value := mapped factorialOf a
def caseBinomial (_ _ : Term) (a b : Value) : Value := mapped₂ binomialOf a b
def caseSqrt (_ : Term) (a : Value) : Value := mapped rootOf a
def caseFloor (_ : Term) (a : Value) : Value := mapped floorOf a
def caseCeil (_ : Term) (a : Value) : Value := mapped ceilOf a
def caseGcd (_ _ : Term) (a b : Value) : Value := mapped₂ gcdOf a b
def caseLcm (_ _ : Term) (a b : Value) : Value := mapped₂ lcmOf a b
def caseMod (_ _ : Term) (a b : Value) : Value := mapped₂ modOf a b
def compute (names : Nat → Value) (t : Term) : Value :=
  @Term.rec (fun _ => Value) caseNum ratioOf names caseNeg caseAdd caseSub caseMul caseDiv casePow caseAbs
    caseFactorial caseBinomial caseSqrt caseFloor caseCeil caseGcd caseLcm caseMod t

theorem mapped_eq (f : Rat → Value) : {u x : Value} → Eq u x → Eq (mapped f u) (x.map f)
  | _, .is _, e => congrArg (mapped f) e
  | _, .divided, e => congrArg (mapped f) e
  | _, .beyond, e => congrArg (mapped f) e
theorem mapped₂_same (f : Rat → Rat → Value) : (x y : Value) → Eq (mapped₂ f x y) (x.map₂ f y)
  | .is _, .is _ => rfl
  | .is _, .divided => rfl
  | .is _, .beyond => rfl
  | .divided, _ => rfl
  | .beyond, .is _ => rfl
  | .beyond, .divided => rfl
  | .beyond, .beyond => rfl
theorem mapped₂_eq (f : Rat → Rat → Value) {u v x y : Value} (e : Eq u x) (k : Eq v y) :
    Eq (mapped₂ f u v) (x.map₂ f y) :=
  Eq.trans (congrArg (fun z => mapped₂ f z v) e) (Eq.trans (congrArg (mapped₂ f x) k) (mapped₂_same f x y))

theorem compute_eq (names : Nat → Value) : (t : Term) → Eq (compute names t) (value names t)
  | .num _ => rfl
  | .ratio _ _ => rfl
  | .var _ => rfl
  | .neg a => mapped_eq _ (compute_eq names a)
  | .add a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)
  | .sub a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)
  | .mul a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)
  | .div a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)
  | .pow a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)
  | .abs a => mapped_eq _ (compute_eq names a)
  | .factorial a => mapped_eq _ (compute_eq names a)
  | .binomial a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)
  | .sqrt a => mapped_eq _ (compute_eq names a)
  | .floor a => mapped_eq _ (compute_eq names a)
  | .ceil a => mapped_eq _ (compute_eq names a)
  | .gcd a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)
  | .lcm a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)
  | .mod a b => mapped₂_eq _ (compute_eq names a) (compute_eq names b)

/-! ## Tests -/

/-- The value that the first hypothesis about a name gives it. -/
def lookup (all : Hypotheses) (name : Nat) : Value :=
  @Hypotheses.rec (fun _ => Value) .beyond (fun x t _ found => cond (Nat.beq x name) (value unnamed t) found) all

/-- Whether two values are numbers that pass a check. -/
def bothAre (check : Rat → Rat → Bool) (u v : Value) : Bool :=
  @Value.rec (fun _ => Bool) (fun a => @Value.rec (fun _ => Bool) (check a) false false v) false false u
def isDivided (u : Value) : Bool := @Value.rec (fun _ => Bool) (fun _ => false) true false u

/-- Each of the hypotheses has a value, the one that `all` looks up for its name. -/
def consistent (all some : Hypotheses) : Bool :=
  @Hypotheses.rec (fun _ => Bool) true
    (fun x t _ rest => and (bothAre Rat.beq (value unnamed t) (lookup all x)) rest) some

def differ (a b : Rat) : Bool := not (Rat.beq a b)
/-- One of the hypotheses divides by zero, or gives another number than `all` looks up for its name. -/
def contradictory (all some : Hypotheses) : Bool :=
  @Hypotheses.rec (fun _ => Bool) false
    (fun x t _ rest => or (or (isDivided (value unnamed t)) (bothAre differ (value unnamed t) (lookup all x))) rest) some

def test (r : Relation) (a b : Rat) : Bool :=
  @Relation.rec (fun _ => Bool) (Rat.beq a b) (differ a b) (not (Rat.ble b a)) (Rat.ble a b) (not (Rat.ble a b))
    (Rat.ble b a) (fun n d => Rat.ble (Rat.abs (Rat.sub a b)) (Rat.make (Int.ofNat n) d)) r

def comesOutTrue (h : Hypotheses) (l : Term) (r : Relation) (m : Term) : Bool :=
  and (consistent h h) (bothAre (test r) (compute (lookup h) l) (compute (lookup h) m))
def comesOutFalse (h : Hypotheses) (l : Term) (r : Relation) (m : Term) : Bool :=
  and (consistent h h) (bothAre (fun a b => not (test r a b)) (compute (lookup h) l) (compute (lookup h) m))
def dividesByZero (h : Hypotheses) (l m : Term) : Bool :=
  and (consistent h h) (or (isDivided (compute (lookup h) l)) (isDivided (compute (lookup h) m)))

/-! ## Values only grow

Knowing more names never changes a value that was known: `beyond` may become something, a number or a
division by zero stays what it is. -/

def Below : Value → Value → Prop
  | .beyond, _ => True
  | .is a, v => Eq v (.is a)
  | .divided, v => Eq v .divided

theorem Below.refl : (u : Value) → Below u u
  | .beyond => True.intro
  | .is _ => rfl
  | .divided => rfl

theorem Below.map (f : Rat → Value) : (u : Value) → {x : Value} → Below u x → Below (u.map f) (x.map f)
  | .beyond, _, _ => True.intro
  | .is a, _, e => Eq.subst (p := fun (x : Value) => Below (f a) (x.map f)) (Eq.symm e) (Below.refl (f a))
  | .divided, _, e => Eq.subst (p := fun (x : Value) => Eq (x.map f) .divided) (Eq.symm e) rfl

theorem map₂_divided (f : Rat → Rat → Value) : (x : Value) → Eq (x.map₂ f .divided) .divided
  | .beyond => rfl
  | .is _ => rfl
  | .divided => rfl

theorem Below.map₂ (f : Rat → Rat → Value) :
    (u v : Value) → {x y : Value} → Below u x → Below v y → Below (u.map₂ f v) (x.map₂ f y)
  | .is a, .is b, x, _, e, k =>
    Eq.subst (p := fun (y : Value) => Below (f a b) (x.map₂ f y)) (Eq.symm k)
      (Eq.subst (p := fun (x : Value) => Below (f a b) (x.map₂ f (.is b))) (Eq.symm e) (Below.refl (f a b)))
  | .divided, _, _, y, e, _ => Eq.subst (p := fun (x : Value) => Eq (x.map₂ f y) .divided) (Eq.symm e) rfl
  | .is _, .divided, x, _, _, k =>
    Eq.subst (p := fun (y : Value) => Eq (x.map₂ f y) .divided) (Eq.symm k) (map₂_divided f x)
  | .beyond, .divided, x, _, _, k =>
    Eq.subst (p := fun (y : Value) => Eq (x.map₂ f y) .divided) (Eq.symm k) (map₂_divided f x)
  | .is _, .beyond, _, _, _, _ => True.intro
  | .beyond, .is _, _, _, _, _ => True.intro
  | .beyond, .beyond, _, _, _, _ => True.intro

theorem value_grows {few many : Nat → Value} (grow : (x : Nat) → Below (few x) (many x)) :
    (t : Term) → Below (value few t) (value many t)
  | .num _ => Below.refl _
  | .ratio _ _ => Below.refl _
  | .var x => grow x
  | .neg a => Below.map _ _ (value_grows grow a)
  | .add a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)
  | .sub a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)
  | .mul a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)
  | .div a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)
  | .pow a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)
  | .abs a => Below.map _ _ (value_grows grow a)
  | .factorial a => Below.map _ _ (value_grows grow a)
  | .binomial a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)
  | .sqrt a => Below.map _ _ (value_grows grow a)
  | .floor a => Below.map _ _ (value_grows grow a)
  | .ceil a => Below.map _ _ (value_grows grow a)
  | .gcd a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)
  | .lcm a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)
  | .mod a b => Below.map₂ _ _ _ (value_grows grow a) (value_grows grow b)

theorem compute_grows {few many : Nat → Value} (grow : (x : Nat) → Below (few x) (many x)) (t : Term) :
    Below (compute few t) (value many t) :=
  Eq.subst (p := fun u => Below u (value many t)) (Eq.symm (compute_eq few t)) (value_grows grow t)

/-- What is looked up is what every assignment that meets the hypotheses assigns. -/
theorem lookup_below (assignment : Nat → Rat) :
    (h : Hypotheses) → Meets assignment h → (x : Nat) → Below (lookup h x) (assigned assignment x)
  | .nothing, _, _ => True.intro
  | .given y t rest, m, x =>
    cond_cases (p := fun v => Below v (assigned assignment x)) (Nat.beq y x) (value unnamed t) (lookup rest x)
      (fun e => Eq.subst (p := fun z => Below (value unnamed t) (assigned assignment z)) (Nat.eq_of_beq y x e)
        (Eq.subst (p := fun v => Below (value unnamed t) v) m.left (Below.refl _)))
      (fun _ => lookup_below assignment rest m.right x)

/-! ## What the tests prove -/

theorem impossible {p : Prop} (h : Eq false true) : p := False.elim (Bool.false_ne_true h)

theorem compare_of_test : (r : Relation) → (a b : Rat) → Eq (test r a b) true → compare r a b
  | .eq, a, b, h => Rat.eq_of_beq a b h
  | .ne, _, _, h => Rat.ne_of_beq (eq_false_of_not h)
  | .lt, _, _, h => eq_false_of_not h
  | .le, _, _, h => h
  | .gt, _, _, h => eq_false_of_not h
  | .ge, _, _, h => h
  | .about _ _, _, _, h => h

theorem not_compare_of_test : (r : Relation) → (a b : Rat) → Eq (not (test r a b)) true → compare r a b → False
  | .eq, _, _, h, c => Rat.ne_of_beq (eq_false_of_not h) c
  | .ne, a, b, h, c => c (Rat.eq_of_beq a b (eq_true_of_not (eq_false_of_not h)))
  | .lt, _, _, h, c => not_both (eq_true_of_not (eq_false_of_not h)) c
  | .le, _, _, h, c => not_both c (eq_false_of_not h)
  | .gt, _, _, h, c => not_both (eq_true_of_not (eq_false_of_not h)) c
  | .ge, _, _, h, c => not_both c (eq_false_of_not h)
  | .about _ _, _, _, h, c => not_both c (eq_false_of_not h)

theorem related_of_test (r : Relation) :
    (u v : Value) → {x y : Value} → Eq (bothAre (test r) u v) true → Below u x → Below v y → Related r x y
  | .is a, .is b, x, _, h, e, k =>
    Eq.subst (p := fun y => Related r x y) (Eq.symm k)
      (Eq.subst (p := fun x => Related r x (.is b)) (Eq.symm e) (compare_of_test r a b h))
  | .is _, .divided, _, _, h, _, _ => impossible h
  | .is _, .beyond, _, _, h, _, _ => impossible h
  | .divided, _, _, _, h, _, _ => impossible h
  | .beyond, _, _, _, h, _, _ => impossible h

theorem not_related_of_test (r : Relation) : (u v : Value) → {x y : Value} →
    Eq (bothAre (fun a b => not (test r a b)) u v) true → Below u x → Below v y → Related r x y → False
  | .is a, .is b, x, _, h, e, k, c =>
    not_compare_of_test r a b h
      (Eq.subst (p := fun x => Related r x (.is b)) e (Eq.subst (p := fun y => Related r x y) k c))
  | .is _, .divided, _, _, h, _, _, _ => impossible h
  | .is _, .beyond, _, _, h, _, _, _ => impossible h
  | .divided, _, _, _, h, _, _, _ => impossible h
  | .beyond, _, _, _, h, _, _, _ => impossible h

theorem not_related_divided (r : Relation) : (x : Value) → Related r x .divided → False
  | .is _, c => c
  | .divided, c => c
  | .beyond, c => c
theorem left_divided (r : Relation) :
    (u : Value) → {x y : Value} → Eq (isDivided u) true → Below u x → Related r x y → False
  | .divided, _, y, _, e, c => Eq.subst (p := fun x => Related r x y) e c
  | .is _, _, _, h, _, _ => impossible h
  | .beyond, _, _, h, _, _ => impossible h
theorem right_divided (r : Relation) :
    (v : Value) → {x y : Value} → Eq (isDivided v) true → Below v y → Related r x y → False
  | .divided, x, _, _, e, c => not_related_divided r x (Eq.subst (p := fun y => Related r x y) e c)
  | .is _, _, _, h, _, _ => impossible h
  | .beyond, _, _, h, _, _ => impossible h

def number : Value → Rat
  | .is q => q
  | .divided => 0
  | .beyond => 0
/-- The assignment that gives every name the number looked up for it. -/
def chosen (h : Hypotheses) (x : Nat) : Rat := number (lookup h x)

theorem agree_is : (u v : Value) → Eq (bothAre Rat.beq u v) true → Eq u (.is (number v))
  | .is a, .is b, h => congrArg Value.is (Rat.eq_of_beq a b h)
  | .is _, .divided, h => impossible h
  | .is _, .beyond, h => impossible h
  | .divided, _, h => impossible h
  | .beyond, _, h => impossible h
theorem chosen_meets (all : Hypotheses) : (h : Hypotheses) → Eq (consistent all h) true → Meets (chosen all) h
  | .nothing, _ => True.intro
  | .given _ _ rest, c => And.intro (agree_is _ _ (and_left c)) (chosen_meets all rest (and_right c))

theorem clash_false {u : Value} {q : Rat} (e : Eq u (.is q)) :
    (v : Value) → Below v (.is q) → Eq (bothAre differ u v) true → False
  | .is b, k, c =>
    Rat.ne_of_beq (eq_false_of_not (Eq.subst (p := fun z => Eq (bothAre differ z (.is b)) true) e c)) (congrArg number k)
  | .divided, _, c => impossible (Eq.subst (p := fun z => Eq (bothAre differ z .divided) true) e c)
  | .beyond, _, c => impossible (Eq.subst (p := fun z => Eq (bothAre differ z .beyond) true) e c)
theorem contradictory_false (all : Hypotheses) (assignment : Nat → Rat) (meetsAll : Meets assignment all) :
    (h : Hypotheses) → Meets assignment h → Eq (contradictory all h) true → False
  | .nothing, _, c => Bool.false_ne_true c
  | .given x _ rest, m, c =>
    or_elim c
      (fun k => or_elim k
        (fun d => Bool.false_ne_true (Eq.subst (p := fun z => Eq (isDivided z) true) m.left d))
        (fun d => clash_false m.left _ (lookup_below assignment all meetsAll x) d))
      (fun k => contradictory_false all assignment meetsAll rest m.right k)

/-! ## The four theorems that claims are settled by

In each, the premise is a closed Boolean computation; `Eq.refl true` proves it exactly when the kernel
finds that the computation comes out `true`. -/

section
variable {h : Hypotheses} {l : Term} {r : Relation} {m : Term}

theorem proved (c : Eq (comesOutTrue h l r m) true) : Holds h l r m where
  possible := Exists.intro (chosen h) (chosen_meets h h (and_left c))
  always := fun assignment meets => related_of_test r _ _ (and_right c)
    (compute_grows (lookup_below assignment h meets) l) (compute_grows (lookup_below assignment h meets) m)

theorem refuted (c : Eq (comesOutFalse h l r m) true) : Not (Holds h l r m) := fun holds =>
  have meets := chosen_meets h h (and_left c)
  not_related_of_test r _ _ (and_right c)
    (compute_grows (lookup_below (chosen h) h meets) l) (compute_grows (lookup_below (chosen h) h meets) m)
    (holds.always (chosen h) meets)

theorem undefined (c : Eq (dividesByZero h l m) true) : Not (Holds h l r m) := fun holds =>
  have meets := chosen_meets h h (and_left c)
  or_elim (and_right c)
    (fun k => left_divided r _ k (compute_grows (lookup_below (chosen h) h meets) l) (holds.always (chosen h) meets))
    (fun k => right_divided r _ k (compute_grows (lookup_below (chosen h) h meets) m) (holds.always (chosen h) meets))

theorem contradicted (c : Eq (contradictory h h) true) : Contradictory h := fun possible =>
  @Exists.rec (Nat → Rat) (fun assignment => Meets assignment h) (fun _ => False)
    (fun assignment meets => contradictory_false h assignment meets h meets c) possible
end

end Draftproof
