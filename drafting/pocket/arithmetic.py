"""One calculation of a pocket problem: its result, and how hard it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sign = Literal["+", "-", "*", "/"]


@dataclass(frozen=True)
class Calculation:
    """`left sign right = result`, over natural numbers; divisions leave no rest."""

    left: int
    sign: Sign
    right: int

    @property
    def result(self) -> int:
        match self.sign:
            case "+":
                return self.left + self.right
            case "-":
                return self.left - self.right
            case "*":
                return self.left * self.right
            case "/":
                return self.left // self.right

    @property
    def hard(self) -> bool:
        """Whether it takes care: carries or borrows, and products and quotients beyond the tables up to ten."""
        match self.sign:
            case "+":
                return carries(self.left, self.right) > 0 and min(self.left, self.right) >= 10
            case "-":
                return carries(self.result, self.right) > 0 and self.right >= 10
            case "*":
                return max(self.left, self.right) > 10
            case "/":
                return self.left > 100 or self.result > 10

    def __str__(self) -> str:
        return f"{self.left}{self.sign}{self.right}={self.result}"

    def same(self, other: Calculation) -> bool:
        """Whether `other` is this calculation, its sides exchanged or not where that changes nothing."""
        if self.sign != other.sign:
            return False
        if (self.left, self.right) == (other.left, other.right):
            return True
        return self.sign in "+*" and (self.left, self.right) == (other.right, other.left)


def carries(left: int, right: int) -> int:
    """How often the sum of two natural numbers carries, column by column."""
    count = carry = 0
    while left or right:
        carry = (left % 10 + right % 10 + carry) // 10
        count += carry
        left, right = left // 10, right // 10
    return count
