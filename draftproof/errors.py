"""The exceptions of draftproof, and the exit status each one ends a command with.

    DraftproofError
    ├── UsageError                 (ValueError)       2   an argument, option or setting is wrong
    │   ├── UnknownNameError       (KeyError)         2   no verifier, format or pipeline of that name
    │   └── MissingExtraError      (ImportError)      2   an optional dependency is not installed
    ├── InputError                 (ValueError)       3   a file or a line of it cannot be read
    ├── ContractError              (TypeError)        1   a verifier broke its protocol
    │   └── DisagreementError                         1   two exact verifiers contradict each other
    ├── ModelError                 (RuntimeError)     3   a language model cannot be loaded or go on
    │   ├── ContextLengthError     (ValueError)       3   more tokens than the model's context holds
    │   ├── NumericalError         (ArithmeticError)  3   logits that are not numbers
    │   └── OutOfMemoryError       (MemoryError)      3   the model, its cache or a pass does not fit
    ├── ProofEnvironmentError      (RuntimeError)     1   the Lean backend cannot start or be built
    └── StoreError                 (RuntimeError)     6   the verdict store cannot be used
        ├── StoreUnreachableError                     6   no connection, no permission, disk full
        ├── SchemaMismatchError                       6   the schema is not the one this version needs
        └── IntegrityError                            5   stored verdicts contradict the conservation law

A failed check is a value (`Outcome`), never an exception: exceptions are for machines that fail.
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command of ours exits with."""

    SETTLED = 0
    BUG = 1
    USAGE = 2
    ITEMS_FAILED = 3
    """The run finished, but items errored or input lines were rejected as unreadable."""
    GATE_NOT_MET = 4
    INTEGRITY = 5
    STORE = 6
    INTERRUPTED = 130
    TERMINATED = 143


class DraftproofError(Exception):
    """Base of every exception of ours. `code` is stable; messages may be reworded."""

    code = "internal"
    exit_status = ExitStatus.BUG

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        """What the reader can do about it, as one sentence; None when nothing helps."""

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class UsageError(DraftproofError, ValueError):
    code = "usage"
    exit_status = ExitStatus.USAGE


class UnknownNameError(UsageError, KeyError):
    code = "unknown_name"

    __str__ = DraftproofError.__str__


class MissingExtraError(UsageError, ImportError):
    code = "missing_extra"


class InputError(DraftproofError, ValueError):
    code = "input"
    exit_status = ExitStatus.ITEMS_FAILED


class ContractError(DraftproofError, TypeError):
    code = "contract"


class DisagreementError(ContractError):
    code = "disagreement"


class ModelError(DraftproofError, RuntimeError):
    code = "model"
    exit_status = ExitStatus.ITEMS_FAILED


class ContextLengthError(ModelError, ValueError):
    code = "context_length"


class NumericalError(ModelError, ArithmeticError):
    code = "numerical"


class OutOfMemoryError(ModelError, MemoryError):
    code = "out_of_memory"


class ProofEnvironmentError(DraftproofError, RuntimeError):
    code = "proof_environment"


class StoreError(DraftproofError, RuntimeError):
    code = "store"
    exit_status = ExitStatus.STORE


class StoreUnreachableError(StoreError):
    code = "store_unreachable"


class SchemaMismatchError(StoreError):
    code = "schema_mismatch"


class IntegrityError(StoreError):
    code = "integrity"
    exit_status = ExitStatus.INTEGRITY
