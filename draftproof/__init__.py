"""draftproof: something cheap drafts, something stronger or provable verifies, every verdict is kept.

    import draftproof as dp

    result = dp.verify("solutions.jsonl", verifiers=["arithmetic", "lean"])
    result.conservation   # where every pair of a step and a verifier went
    result.to_pandas()    # one row a verdict

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draftproof.api import Verification as Verification
    from draftproof.api import verify as verify
    from draftproof.drafting.decoder import SpeculativeDecoder as SpeculativeDecoder
    from draftproof.drafting.models.load import load_model as load_model
    from draftproof.drafting.sampling import Sampling as Sampling
    from draftproof.errors import DraftproofError as DraftproofError
    from draftproof.importers.reading import read_traces as read_traces
    from draftproof.subject import Subject as Subject
    from draftproof.trace import Step as Step
    from draftproof.trace import StepLabel as StepLabel
    from draftproof.trace import Trace as Trace
    from draftproof.verdict import Outcome as Outcome
    from draftproof.verdict import Verdict as Verdict
    from draftproof.verifier import Verifier as Verifier
    from draftproof.verifier import run_verifier as run_verifier

__version__ = "0.1.0"

_HOMES = {
    "DraftproofError": "draftproof.errors",
    "Outcome": "draftproof.verdict",
    "Sampling": "draftproof.drafting.sampling",
    "SpeculativeDecoder": "draftproof.drafting.decoder",
    "Step": "draftproof.trace",
    "StepLabel": "draftproof.trace",
    "Subject": "draftproof.subject",
    "Trace": "draftproof.trace",
    "Verdict": "draftproof.verdict",
    "Verification": "draftproof.api",
    "Verifier": "draftproof.verifier",
    "load_model": "draftproof.drafting.models.load",
    "read_traces": "draftproof.importers.reading",
    "run_verifier": "draftproof.verifier",
    "verify": "draftproof.api",
}

__all__ = [
    "DraftproofError",
    "Outcome",
    "Sampling",
    "SpeculativeDecoder",
    "Step",
    "StepLabel",
    "Subject",
    "Trace",
    "Verdict",
    "Verification",
    "Verifier",
    "__version__",
    "load_model",
    "read_traces",
    "run_verifier",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'draftproof' has no attribute {name!r}")
    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        from draftproof.errors import MissingExtraError

        raise MissingExtraError(
            f"draftproof.{name} needs the package {error.name!r}.",
            remedy="Install it: pip install 'draftproof[engine]'.",
        ) from error


def __dir__() -> list[str]:
    return __all__
