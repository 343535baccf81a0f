/-
Chapter 2. Natural numbers, integers, rationals.

The kernel computes fifteen functions on natural literals with big-number arithmetic *by name*, without
looking at their definitions: `Nat.add sub mul div mod gcd beq ble pow log2 land lor xor shiftLeft
shiftRight`. Two duties follow. Every one of them must be defined here, or a later file could define it
otherwise and prove `8 = 0` without an axiom. And every definition must say what the machine computes,
or the kernel would contradict its own unfolding; where a definition needs fuel, the fuelled helper has
a name of its own, so that the tests can compare the helper (computed by unfolding) with the function
(computed by the machine).

Integers are `n` or `-(n+1)`; rationals are a numerator over a natural denominator, brought to lowest
terms after every operation, so that two values are equal exactly when they are the same pair. Pairs
that are not in lowest terms exist as terms, but no operation of this file makes one from operands
that are.
-/
prelude
import Draftproof.Logic
set_option genCtorIdx false
set_option autoImplicit false
set_option linter.unusedVariables false
set_option bootstrap.genMatcherCode false
universe u
noncomputable section

/-! ## Naturals -/

protected def Nat.add : Nat → Nat → Nat
  | a, Nat.zero => a
  | a, Nat.succ b => Nat.succ (Nat.add a b)
def Nat.pred : Nat → Nat
  | Nat.zero => Nat.zero
  | Nat.succ a => a
/-- Truncated: `5 - 7 = 0`. Only used where the result is known not to be cut. -/
protected def Nat.sub : Nat → Nat → Nat
  | a, Nat.zero => a
  | a, Nat.succ b => Nat.pred (Nat.sub a b)
protected def Nat.mul : Nat → Nat → Nat
  | _, Nat.zero => Nat.zero
  | a, Nat.succ b => Nat.add (Nat.mul a b) a
protected def Nat.pow : Nat → Nat → Nat
  | _, Nat.zero => Nat.succ Nat.zero
  | a, Nat.succ b => Nat.mul (Nat.pow a b) a
def Nat.beq : Nat → Nat → Bool
  | Nat.zero, Nat.zero => true
  | Nat.succ a, Nat.succ b => Nat.beq a b
  | Nat.zero, Nat.succ _ => false
  | Nat.succ _, Nat.zero => false
def Nat.ble : Nat → Nat → Bool
  | Nat.zero, _ => true
  | Nat.succ a, Nat.succ b => Nat.ble a b
  | Nat.succ _, Nat.zero => false

theorem Nat.eq_of_beq : (a b : Nat) → Eq (Nat.beq a b) true → Eq a b
  | Nat.zero, Nat.zero, _ => rfl
  | Nat.succ a, Nat.succ b, h => congrArg Nat.succ (Nat.eq_of_beq a b h)
  | Nat.zero, Nat.succ _, h => False.elim (Bool.false_ne_true h)
  | Nat.succ _, Nat.zero, h => False.elim (Bool.false_ne_true h)
theorem Nat.beq_refl : (a : Nat) → Eq (Nat.beq a a) true
  | Nat.zero => rfl
  | Nat.succ a => Nat.beq_refl a
theorem Nat.ne_of_beq {a b : Nat} (h : Eq (Nat.beq a b) false) : Not (Eq a b) := fun e =>
  Bool.false_ne_true (Eq.trans (Eq.symm h) (Eq.subst (p := fun x => Eq (Nat.beq a x) true) e (Nat.beq_refl a)))
instance Nat.decEq (a b : Nat) : Decidable (Eq a b) :=
  Decidable.byTest (Nat.beq a b) (Nat.eq_of_beq a b) Nat.ne_of_beq
protected def Nat.le (a b : Nat) : Prop := Eq (Nat.ble a b) true
protected def Nat.lt (a b : Nat) : Prop := Nat.le (Nat.succ a) b
instance Nat.decLe (a b : Nat) : Decidable (Nat.le a b) := Bool.decEq (Nat.ble a b) true
instance Nat.decLt (a b : Nat) : Decidable (Nat.lt a b) := Bool.decEq (Nat.ble (Nat.succ a) b) true

/-- How often `b` can be taken from `a`, in at most `fuel` subtractions; `a` itself is always enough. -/
def Nat.divFuel (b : Nat) : Nat → Nat → Nat
  | Nat.zero, _ => 0
  | Nat.succ fuel, a => cond (Nat.ble b a) (Nat.succ (Nat.divFuel b fuel (Nat.sub a b))) 0
/-- Floor division; `a / 0 = 0`, as the machine has it. -/
protected def Nat.div (a b : Nat) : Nat := cond (Nat.beq b 0) 0 (Nat.divFuel b a a)
/-- Remainder; `a % 0 = a`. -/
protected def Nat.mod (a b : Nat) : Nat := Nat.sub a (Nat.mul b (Nat.div a b))
/-- Euclid's algorithm; the first argument shrinks at every call, so `a + 1` calls are enough. -/
def Nat.gcdFuel : Nat → Nat → Nat → Nat
  | Nat.zero, _, b => b
  | Nat.succ fuel, a, b => cond (Nat.beq a 0) b (Nat.gcdFuel fuel (Nat.mod b a) a)
def Nat.gcd (a b : Nat) : Nat := Nat.gcdFuel (Nat.succ a) a b
def Nat.log2Fuel : Nat → Nat → Nat
  | Nat.zero, _ => 0
  | Nat.succ fuel, a => cond (Nat.ble a 1) 0 (Nat.succ (Nat.log2Fuel fuel (Nat.div a 2)))
/-- Position of the highest bit; `log2 0 = 0`. -/
def Nat.log2 (a : Nat) : Nat := Nat.log2Fuel a a
def Nat.shiftLeft (a b : Nat) : Nat := Nat.mul a (Nat.pow 2 b)
def Nat.shiftRight (a b : Nat) : Nat := Nat.div a (Nat.pow 2 b)
/-- Applies `bit` to the binary digits of `a` and `b`, lowest first; `a + b` digits are always enough. -/
def Nat.bitsFuel (bit : Nat → Nat → Nat) : Nat → Nat → Nat → Nat
  | Nat.zero, _, _ => 0
  | Nat.succ fuel, a, b =>
    Nat.add (bit (Nat.mod a 2) (Nat.mod b 2)) (Nat.mul 2 (Nat.bitsFuel bit fuel (Nat.div a 2) (Nat.div b 2)))
def Nat.andBit (x y : Nat) : Nat := Nat.mul x y
def Nat.orBit (x y : Nat) : Nat := Nat.sub (Nat.add x y) (Nat.mul x y)
def Nat.xorBit (x y : Nat) : Nat := Nat.mod (Nat.add x y) 2
def Nat.land (a b : Nat) : Nat := Nat.bitsFuel Nat.andBit (Nat.add a b) a b
def Nat.lor (a b : Nat) : Nat := Nat.bitsFuel Nat.orBit (Nat.add a b) a b
def Nat.xor (a b : Nat) : Nat := Nat.bitsFuel Nat.xorBit (Nat.add a b) a b

def Nat.factorial : Nat → Nat
  | Nat.zero => 1
  | Nat.succ n => Nat.mul (Nat.succ n) (Nat.factorial n)
/-- `n (n-1) ... (n-k+1)`. -/
def Nat.falling (n : Nat) : Nat → Nat
  | Nat.zero => 1
  | Nat.succ k => Nat.mul (Nat.sub n k) (Nat.falling n k)
/-- `n` over `k`, computed over the shorter of the two sides; 0 when `k > n`. -/
def Nat.binomial (n k : Nat) : Nat :=
  cond (Nat.ble k n)
    (cond (Nat.ble k (Nat.sub n k))
      (Nat.div (Nat.falling n k) (Nat.factorial k))
      (Nat.div (Nat.falling n (Nat.sub n k)) (Nat.factorial (Nat.sub n k))))
    0
/-- Newton's iteration from above, while it falls: the integer part of the square root. Whoever uses
the result squares it again, so a wrong root could only leave a square unrecognised. -/
def Nat.rootFuel (n : Nat) : Nat → Nat → Nat
  | Nat.zero, x => x
  | Nat.succ fuel, x =>
    cond (Nat.ble x (Nat.div (Nat.add x (Nat.div n x)) 2)) x
      (Nat.rootFuel n fuel (Nat.div (Nat.add x (Nat.div n x)) 2))
/-- Starts at a power of two above the root; each step at least halves the excess. -/
def Nat.root (n : Nat) : Nat :=
  Nat.rootFuel n (Nat.add (Nat.log2 n) 2) (Nat.pow 2 (Nat.succ (Nat.div (Nat.log2 n) 2)))

/-! ## Integers -/

inductive Int : Type where
  | ofNat (n : Nat) : Int
  | negSucc (n : Nat) : Int
instance instOfNatInt (n : Nat) : OfNat Int n := OfNat.mk (Int.ofNat n)
def Int.negOfNat (n : Nat) : Int := cond (Nat.beq n 0) (Int.ofNat 0) (Int.negSucc (Nat.pred n))
/-- `m - n`, not truncated. -/
def Int.subNatNat (m n : Nat) : Int := cond (Nat.ble n m) (Int.ofNat (Nat.sub m n)) (Int.negOfNat (Nat.sub n m))

/-- What to do with `n` if the integer is `n`, and with `n` if it is `-(n+1)`: the bare recursor, which the
kernel takes in one step where a pattern match costs it several. -/
@[reducible] def Int.on {α : Type u} (a : Int) (ofNat negSucc : Nat → α) : α := @Int.rec (fun _ => α) ofNat negSucc a

protected def Int.neg (a : Int) : Int := Int.on a Int.negOfNat (fun n => Int.ofNat (Nat.succ n))
def Int.natAbs (a : Int) : Nat := Int.on a (fun n => n) Nat.succ
protected def Int.add (a b : Int) : Int :=
  Int.on a
    (fun m => Int.on b (fun n => Int.ofNat (Nat.add m n)) (fun n => Int.subNatNat m (Nat.succ n)))
    (fun m => Int.on b (fun n => Int.subNatNat n (Nat.succ m)) (fun n => Int.negSucc (Nat.succ (Nat.add m n))))
protected def Int.sub (a b : Int) : Int := Int.add a (Int.neg b)
protected def Int.mul (a b : Int) : Int :=
  Int.on a
    (fun m => Int.on b (fun n => Int.ofNat (Nat.mul m n)) (fun n => Int.negOfNat (Nat.mul m (Nat.succ n))))
    (fun m => Int.on b
      (fun n => Int.negOfNat (Nat.mul (Nat.succ m) n))
      (fun n => Int.ofNat (Nat.mul (Nat.succ m) (Nat.succ n))))
/-- The quotient whose remainder lies in `[0, |b|)`: for `b > 0`, the floor. `a / 0 = 0`. -/
protected def Int.div (a b : Int) : Int :=
  Int.on a
    (fun m => Int.on b (fun n => Int.ofNat (Nat.div m n)) (fun n => Int.negOfNat (Nat.div m (Nat.succ n))))
    (fun m => Int.on b
      (fun n => cond (Nat.beq n 0) (Int.ofNat 0) (Int.negSucc (Nat.div m n)))
      (fun n => Int.ofNat (Nat.succ (Nat.div m (Nat.succ n)))))
protected def Int.mod (a b : Int) : Int := Int.sub a (Int.mul b (Int.div a b))
/-- By the parity of the exponent, so that the power itself is one machine operation. -/
protected def Int.pow (a : Int) (n : Nat) : Int :=
  Int.on a
    (fun m => Int.ofNat (Nat.pow m n))
    (fun m => cond (Nat.beq (Nat.mod n 2) 0) (Int.ofNat (Nat.pow (Nat.succ m) n)) (Int.negOfNat (Nat.pow (Nat.succ m) n)))
def Int.beq (a b : Int) : Bool :=
  Int.on a
    (fun m => Int.on b (fun n => Nat.beq m n) (fun _ => false))
    (fun m => Int.on b (fun _ => false) (fun n => Nat.beq m n))
def Int.ble (a b : Int) : Bool :=
  Int.on a
    (fun m => Int.on b (fun n => Nat.ble m n) (fun _ => false))
    (fun m => Int.on b (fun _ => true) (fun n => Nat.ble n m))
theorem Int.eq_of_beq : (a b : Int) → Eq (Int.beq a b) true → Eq a b
  | Int.ofNat a, Int.ofNat b, h => congrArg Int.ofNat (Nat.eq_of_beq a b h)
  | Int.negSucc a, Int.negSucc b, h => congrArg Int.negSucc (Nat.eq_of_beq a b h)
  | Int.ofNat _, Int.negSucc _, h => False.elim (Bool.false_ne_true h)
  | Int.negSucc _, Int.ofNat _, h => False.elim (Bool.false_ne_true h)
theorem Int.beq_refl : (a : Int) → Eq (Int.beq a a) true
  | Int.ofNat a => Nat.beq_refl a
  | Int.negSucc a => Nat.beq_refl a
theorem Int.ne_of_beq {a b : Int} (h : Eq (Int.beq a b) false) : Not (Eq a b) := fun e =>
  Bool.false_ne_true (Eq.trans (Eq.symm h) (Eq.subst (p := fun x => Eq (Int.beq a x) true) e (Int.beq_refl a)))
instance Int.decEq (a b : Int) : Decidable (Eq a b) :=
  Decidable.byTest (Int.beq a b) (Int.eq_of_beq a b) Int.ne_of_beq
protected def Int.le (a b : Int) : Prop := Eq (Int.ble a b) true
protected def Int.lt (a b : Int) : Prop := Eq (Int.ble b a) false
instance Int.decLe (a b : Int) : Decidable (Int.le a b) := Bool.decEq (Int.ble a b) true
instance Int.decLt (a b : Int) : Decidable (Int.lt a b) := Bool.decEq (Int.ble b a) false

/-! ## Rationals -/

structure Rat where
  mk ::
  num : Int
  den : Nat
/-- `n / d` in lowest terms. `d` must not be 0; whoever divides has asked before. -/
def Rat.make (n : Int) (d : Nat) : Rat :=
  cond (Nat.beq (Nat.gcd (Int.natAbs n) d) 1)
    (Rat.mk n d)
    (Rat.mk (Int.div n (Int.ofNat (Nat.gcd (Int.natAbs n) d))) (Nat.div d (Nat.gcd (Int.natAbs n) d)))
def Rat.ofInt (n : Int) : Rat := Rat.mk n 1
def Rat.ofNat (n : Nat) : Rat := Rat.mk (Int.ofNat n) 1
instance instOfNatRat (n : Nat) : OfNat Rat n := OfNat.mk (Rat.ofNat n)
/-- `f` of numerator and denominator: the bare recursor. -/
@[reducible] def Rat.on {α : Type u} (a : Rat) (f : Int → Nat → α) : α := @Rat.rec (fun _ => α) f a
/-- Integers (the denominators' product is 1) are added without looking for a common denominator. -/
protected def Rat.add (a b : Rat) : Rat :=
  Rat.on a fun n d => Rat.on b fun m e =>
    cond (Nat.beq (Nat.mul d e) 1)
      (Rat.mk (Int.add n m) 1)
      (Rat.make (Int.add (Int.mul n (Int.ofNat e)) (Int.mul m (Int.ofNat d))) (Nat.mul d e))
protected def Rat.neg (a : Rat) : Rat := Rat.on a fun n d => Rat.mk (Int.neg n) d
protected def Rat.sub (a b : Rat) : Rat := Rat.add a (Rat.neg b)
protected def Rat.mul (a b : Rat) : Rat :=
  Rat.on a fun n d => Rat.on b fun m e =>
    cond (Nat.beq (Nat.mul d e) 1) (Rat.mk (Int.mul n m) 1) (Rat.make (Int.mul n m) (Nat.mul d e))
/-- `1 / a` for `a ≠ 0`; `1 / 0 = 0` here, which no claim ever reaches. -/
protected def Rat.inv (a : Rat) : Rat :=
  @Int.casesOn (fun _ => Rat) a.num
    (fun n => cond (Nat.beq n 0) (Rat.mk (Int.ofNat 0) 1) (Rat.mk (Int.ofNat a.den) n))
    (fun n => Rat.mk (Int.negOfNat a.den) (Nat.succ n))
protected def Rat.div (a b : Rat) : Rat := Rat.mul a (Rat.inv b)
/-- Powers of a pair in lowest terms are in lowest terms. -/
protected def Rat.pow (a : Rat) (n : Nat) : Rat := Rat.mk (Int.pow a.num n) (Nat.pow a.den n)
def Rat.abs (a : Rat) : Rat := Rat.mk (Int.ofNat (Int.natAbs a.num)) a.den
def Rat.floor (a : Rat) : Int := Int.div a.num (Int.ofNat a.den)
def Rat.beq (a b : Rat) : Bool := Rat.on a fun n d => Rat.on b fun m e => and (Nat.beq d e) (Int.beq n m)
def Rat.ble (a b : Rat) : Bool := Int.ble (Int.mul a.num (Int.ofNat b.den)) (Int.mul b.num (Int.ofNat a.den))
protected def Rat.le (a b : Rat) : Prop := Eq (Rat.ble a b) true
protected def Rat.lt (a b : Rat) : Prop := Eq (Rat.ble b a) false
instance Rat.decLe (a b : Rat) : Decidable (Rat.le a b) := Bool.decEq (Rat.ble a b) true
instance Rat.decLt (a b : Rat) : Decidable (Rat.lt a b) := Bool.decEq (Rat.ble b a) false

theorem Rat.ext : (a b : Rat) → Eq a.num b.num → Eq a.den b.den → Eq a b
  | Rat.mk n d, Rat.mk m e, h, k =>
    Eq.trans (congrArg (fun x => Rat.mk x d) (show Eq n m from h)) (congrArg (Rat.mk m) (show Eq d e from k))
theorem Rat.eq_of_beq : (a b : Rat) → Eq (Rat.beq a b) true → Eq a b
  | Rat.mk n d, Rat.mk m e, h =>
    Rat.ext (Rat.mk n d) (Rat.mk m e) (Int.eq_of_beq n m (and_right h)) (Nat.eq_of_beq d e (and_left h))
theorem Rat.beq_refl : (a : Rat) → Eq (Rat.beq a a) true
  | Rat.mk n d => Eq.subst (p := fun x => Eq (and x (Int.beq n n)) true) (Eq.symm (Nat.beq_refl d)) (Int.beq_refl n)
theorem Rat.ne_of_beq {a b : Rat} (h : Eq (Rat.beq a b) false) : Not (Eq a b) := fun e =>
  Bool.false_ne_true (Eq.trans (Eq.symm h) (Eq.subst (p := fun x => Eq (Rat.beq a x) true) e (Rat.beq_refl a)))
instance Rat.decEq (a b : Rat) : Decidable (Eq a b) :=
  Decidable.byTest (Rat.beq a b) (Rat.eq_of_beq a b) Rat.ne_of_beq

class OfScientific (α : Type u) where
  ofScientific (mantissa : Nat) (exponentSign : Bool) (decimalExponent : Nat) : α
/-- Decimals are exact: `0.15` is 3/20. -/
instance instOfScientificRat : OfScientific Rat := OfScientific.mk
  (fun m s e => cond s (Rat.make (Int.ofNat m) (Nat.pow 10 e)) (Rat.ofNat (Nat.mul m (Nat.pow 10 e))))
end
