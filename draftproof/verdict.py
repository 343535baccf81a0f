"""Verdicts: what a verifier says about a subject, and the checkable facts behind it.

A verdict is frozen, complete in itself and stored as it is: whoever reads it later needs no code
of ours to see what was claimed, what was computed and by which version of what.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from draftproof.subject import SubjectKey
from draftproof.trace import Span

Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
FiniteSeconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Outcome(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"
    ABSTAIN = "abstain"
    """The verifier has nothing to say about this subject."""
    ERROR = "error"
    """The verifier broke or ran out of time. Says nothing about the subject; never a rejection."""


class Proposition(StrEnum):
    """What the score is the probability of. Scores about different propositions are never mixed."""

    CORRECT = "correct"
    LEADS_TO_ANSWER = "leads_to_answer"
    SUPPORTED = "supported"
    TARGET_BETTER = "target_better"
    EASY = "easy"
    COMPLETE = "complete"
    BEST_OF_GROUP = "best_of_group"
    SAME_MODEL = "same_model"


class Guarantee(StrEnum):
    """How strong a verdict is, strongest first."""

    PROOF = "proof"
    """A proof assistant's kernel checked it."""
    EXACT = "exact"
    """Computed without rounding by a deterministic procedure."""
    EXECUTED = "executed"
    """A program ran and was observed."""
    STATISTICAL = "statistical"
    """A calibrated score with a stated error bound."""
    OPINION = "opinion"
    """A model said so."""


class EquationEvidence(BaseModel):
    """One equation or inequality found in the text, with both values."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["equation"] = "equation"
    span: Span
    """Where it stands in the subject's text."""
    text: str
    """The text of that span, verbatim."""
    relation: str
    """One of = ≠ < ≤ > ≥ ≈."""
    left: str
    """The left side as it was read, in plain notation."""
    right: str
    left_value: str | None
    """Exact value as an integer, a fraction `n/d` or `undefined`; None when it was not computed."""
    right_value: str | None
    tolerance: str | None = None
    """How far the sides may differ, from the digits shown; None when the relation is exact."""
    hypotheses: tuple[str, ...] = ()
    """Equations of earlier steps that the values rest on."""
    holds: bool | None
    """None when it could not be decided; `reason` says why."""
    reason: str = ""


class LeanEvidence(BaseModel):
    """One claim as a Lean statement, and what the kernel said of it."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["lean"] = "lean"
    span: Span
    text: str
    status: Literal["proved", "refuted", "unknown", "unformalised", "vacuous", "error"]
    statement: str | None = None
    """The Lean proposition; of a refuted claim, its negation is what was proved."""
    proof: str | None = None
    axioms: tuple[str, ...] | None = None
    """Axioms the proof rests on, from the claim's own report; None when there is no report."""
    toolchain: str | None = None
    prelude_digest: str | None = None
    hypotheses: tuple[str, ...] = ()
    tolerance: str | None = None
    message: str = ""
    cached: bool = False
    """Whether the kernel's answer was taken from the proof cache instead of checked again now."""


class FeatureEvidence(BaseModel):
    """Numbers a decision was computed from."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["features"] = "features"
    values: dict[str, Annotated[float, Field(allow_inf_nan=False)]]


class AcceptanceEvidence(BaseModel):
    """What became of one token block: drafted by something cheap, verified by one pass of the target model."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["acceptance"] = "acceptance"
    drafter: str
    """Which drafter drafted; `none` for a plain step."""
    law: str
    """How the draft may be verified: match, reject, …"""
    rule: str
    drafted: Annotated[int, Field(ge=0)]
    """Nodes of the draft."""
    depth: Annotated[int, Field(ge=0)]
    """Depth of its deepest node."""
    accepted: Annotated[int, Field(ge=0)]
    """Drafted tokens accepted."""
    tokens: tuple[int, ...]
    """Token ids of the block: those accepted, then the correction or bonus token, up to a stop."""
    start: Annotated[int, Field(ge=0)]
    """Absolute position of the first of them, the prompt included."""


class StepEvidence(BaseModel):
    """A piece of text that a model wrote while a pipeline ran: a step, an answer, or a draft that was not kept."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["step"] = "step"
    text: str
    role: str
    """Which of the pipeline's models wrote it: draft, target, …"""
    model: str
    """Its identity, `name#digest`."""
    cause: str
    """Why it ended: stop, end, length, context."""
    tokens: Annotated[int, Field(ge=0)]
    kept: bool
    """Whether it became part of the answer. What was discarded is told as well."""


class RouteEvidence(BaseModel):
    """Who writes a step, and what was compared to decide it."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["route"] = "route"
    policy: str
    """Name of the rule: rsd, oracle, router, glimpse, utility, …"""
    to: str
    """The role that writes the step or whose draft is kept: draft or target."""
    score: Annotated[float, Field(allow_inf_nan=False)] | None
    """On the policy's own scale: a reward, an advantage, nats, a digit; None where there is none to compare."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None


class VotesEvidence(BaseModel):
    """Several answers to one question, and how often each was given."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["votes"] = "votes"
    votes: tuple[str, ...]
    """As they were given, in order; an answer that could not be read is the empty text."""
    winner: str | None
    agreement: Probability
    """Share of all votes that the winner got; unread ones count against it."""


class QuoteEvidence(BaseModel):
    """A passage of a document, verbatim."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["quote"] = "quote"
    document: str
    """Its id, as the subject names it."""
    span: Span
    """Where the passage stands, in characters of the document."""
    text: str
    """What stands there."""


class GroundingEvidence(BaseModel):
    """A part of the subject's text, and whether the documents have it."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["grounding"] = "grounding"
    span: Span
    """Where it stands in the subject's text."""
    text: str
    """The text of that span, verbatim."""
    about: Literal["number", "name", "quote", "sentence"]
    holds: bool | None
    """Whether the documents have it: for a sentence, whether they support it. None when that was not decided; `reason`
    says why."""
    document: str | None = None
    """Id of the document that has it; None where none does, or where it was judged from all of them."""
    found: Span | None = None
    """Where, in characters of that document."""
    reason: str = ""


class ErrorEvidence(BaseModel):
    """How a verifier failed."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["error"] = "error"
    type: str
    message: str
    attempts: int = 1


Evidence = Annotated[
    EquationEvidence
    | LeanEvidence
    | FeatureEvidence
    | AcceptanceEvidence
    | StepEvidence
    | RouteEvidence
    | VotesEvidence
    | QuoteEvidence
    | GroundingEvidence
    | ErrorEvidence,
    Field(discriminator="kind"),
]


class Cost(BaseModel):
    model_config = ConfigDict(frozen=True)

    wall_seconds: FiniteSeconds = 0.0
    """This subject's share of the call that judged it."""
    calls: Annotated[int, Field(ge=0)] = 0
    """Calls to a model or a proof environment."""
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    output_tokens: Annotated[int, Field(ge=0)] = 0


class Verdict(BaseModel):
    """One verifier's judgement of one subject.

    Stored under the natural key (trace digest, granularity, position, verifier, sample), where
    `verifier` already carries version and configuration.
    """

    model_config = ConfigDict(frozen=True)

    subject: SubjectKey
    verifier: str
    """`name@version#config-digest`: a verdict outlives the code that gave it."""
    sample: Annotated[int, Field(ge=0)] = 0
    """Which of several draws of a verifier that is not deterministic."""
    proposition: Proposition
    outcome: Outcome
    score: Probability | None = None
    """Probability of the proposition; None when the verifier abstained or broke."""
    calibrated: bool = False
    guarantee: Guarantee
    lossless: bool | None = None
    """Whether the rule behind the verdict keeps the target's distribution; None where that has no meaning."""
    reason: str = ""
    """Machine-readable, snake_case: why this outcome."""
    evidence: tuple[Evidence, ...] = ()
    cost: Cost = Cost()
    raw: dict[str, Any] = Field(default_factory=dict)
    """The verifier's own scale: logits, entropies, digits, counts. JSON values only."""

    @model_validator(mode="after")
    def _an_error_has_no_score(self) -> Verdict:
        if self.outcome is Outcome.ERROR and self.score is not None:
            raise ValueError("an errored verdict says nothing about its subject: score must be None")
        return self
