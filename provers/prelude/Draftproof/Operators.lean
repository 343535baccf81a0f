/-
Chapter 3. Operators.

The classes behind `+ - * / % ^ = < ≤ > ≥ ∣`, with instances for the three number types and truth values
for closed comparisons. Nothing here adds meaning: every instance hands on a function of chapter 2.
-/
prelude
import Draftproof.Numbers
set_option genCtorIdx false
set_option autoImplicit false
set_option linter.unusedVariables false
universe u v w
class HAdd (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hAdd : α → β → γ
class HSub (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hSub : α → β → γ
class HMul (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hMul : α → β → γ
class HDiv (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hDiv : α → β → γ
class HMod (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hMod : α → β → γ
class HPow (α : Type u) (β : Type v) (γ : outParam (Type w)) where
  hPow : α → β → γ
class Add (α : Type u) where
  add : α → α → α
class Sub (α : Type u) where
  sub : α → α → α
class Mul (α : Type u) where
  mul : α → α → α
class Div (α : Type u) where
  div : α → α → α
class Mod (α : Type u) where
  mod : α → α → α
class Neg (α : Type u) where
  neg : α → α
class Pow (α : Type u) (β : Type v) where
  pow : α → β → α
class NatPow (α : Type u) where
  pow : α → Nat → α
class LT (α : Type u) where
  lt : α → α → Prop
class LE (α : Type u) where
  le : α → α → Prop
class Dvd (α : Type u) where
  dvd : α → α → Prop
@[default_instance] instance instHAdd {α : Type u} [i : Add α] : HAdd α α α := HAdd.mk (Add.add (self := i))
@[default_instance] instance instHSub {α : Type u} [i : Sub α] : HSub α α α := HSub.mk (Sub.sub (self := i))
@[default_instance] instance instHMul {α : Type u} [i : Mul α] : HMul α α α := HMul.mk (Mul.mul (self := i))
@[default_instance] instance instHDiv {α : Type u} [i : Div α] : HDiv α α α := HDiv.mk (Div.div (self := i))
@[default_instance] instance instHMod {α : Type u} [i : Mod α] : HMod α α α := HMod.mk (Mod.mod (self := i))
@[default_instance] instance instHPow {α : Type u} {β : Type v} [i : Pow α β] : HPow α β α := HPow.mk (Pow.pow (self := i))
@[default_instance] instance instPowNat {α : Type u} [i : NatPow α] : Pow α Nat := Pow.mk (NatPow.pow (self := i))
@[reducible] def GT.gt {α : Type u} [LT α] (a b : α) : Prop := LT.lt b a
@[reducible] def GE.ge {α : Type u} [LE α] (a b : α) : Prop := LE.le b a

noncomputable section
instance instAddNat : Add Nat := Add.mk Nat.add
instance instSubNat : Sub Nat := Sub.mk Nat.sub
instance instMulNat : Mul Nat := Mul.mk Nat.mul
instance instDivNat : Div Nat := Div.mk Nat.div
instance instModNat : Mod Nat := Mod.mk Nat.mod
instance instNatPowNat : NatPow Nat := NatPow.mk Nat.pow
instance instLTNat : LT Nat := LT.mk Nat.lt
instance instLENat : LE Nat := LE.mk Nat.le
instance instDvdNat : Dvd Nat := Dvd.mk (fun a b => Eq (Nat.mod b a) 0)
instance instAddInt : Add Int := Add.mk Int.add
instance instSubInt : Sub Int := Sub.mk Int.sub
instance instMulInt : Mul Int := Mul.mk Int.mul
instance instDivInt : Div Int := Div.mk Int.div
instance instModInt : Mod Int := Mod.mk Int.mod
instance instNegInt : Neg Int := Neg.mk Int.neg
instance instNatPowInt : NatPow Int := NatPow.mk Int.pow
instance instLTInt : LT Int := LT.mk Int.lt
instance instLEInt : LE Int := LE.mk Int.le
instance instDvdInt : Dvd Int := Dvd.mk (fun a b => Eq (Int.mod b a) 0)
instance instAddRat : Add Rat := Add.mk Rat.add
instance instSubRat : Sub Rat := Sub.mk Rat.sub
instance instMulRat : Mul Rat := Mul.mk Rat.mul
instance instDivRat : Div Rat := Div.mk Rat.div
instance instNegRat : Neg Rat := Neg.mk Rat.neg
instance instNatPowRat : NatPow Rat := NatPow.mk Rat.pow
instance instLTRat : LT Rat := LT.mk Rat.lt
instance instLERat : LE Rat := LE.mk Rat.le
instance (a b : Nat) : Decidable (LT.lt a b) := Nat.decLt a b
instance (a b : Nat) : Decidable (LE.le a b) := Nat.decLe a b
instance (a b : Nat) : Decidable (Dvd.dvd a b) := Nat.decEq (Nat.mod b a) 0
instance (a b : Int) : Decidable (LT.lt a b) := Int.decLt a b
instance (a b : Int) : Decidable (LE.le a b) := Int.decLe a b
instance (a b : Int) : Decidable (Dvd.dvd a b) := Int.decEq (Int.mod b a) 0
instance (a b : Rat) : Decidable (LT.lt a b) := Rat.decLt a b
instance (a b : Rat) : Decidable (LE.le a b) := Rat.decLe a b
end
