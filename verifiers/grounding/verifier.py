"""The verifier `grounding`: is all that a text states supported by the documents it cites?

A subject is a text (an answer, a rationale, or a single sentence) with `Subject.documents`, chunk id to text. It is
judged sentence by sentence, and supported when each sentence is: by the chunks together, not by one alone. What is
found of each number, name and sentence is the verdict's evidence.

Cheapest first. (1) Every number and (2) every name of a sentence must stand in a chunk. One that does not is a
rejection, guarantee `exact`: a deterministic procedure, that of `numbers` and `names`, read it in the sentence and
found it in no chunk under any spelling that it knows, nor in the question. That is a fact about spellings. It does not
say that the sentence is false, nor that no reader could work the number out: what has to be computed from the
documents, a sum or a count, does not stand in them and is rejected as well. (3) What passes is put to a language
model, and what that says is an opinion. Without a model nothing is accepted, for all numbers may be right in a wrong
sentence.

The question's own numbers and names are given, and no claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from draftproof.errors import UsageError
from draftproof.language_model import Ability, LanguageModel, require
from draftproof.segment import segment
from draftproof.settings import settings
from draftproof.subject import Granularity, Subject
from draftproof.trace import Span
from draftproof.verdict import Cost, GroundingEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import abstention, identity
from draftproof.verifiers.grounding.chunk import Chunk
from draftproof.verifiers.grounding.entailment import PROMPT, Opinion, Question, opinions
from draftproof.verifiers.grounding.exact import Sources
from draftproof.verifiers.grounding.reading import reading_digest
from draftproof.verifiers.grounding.words import SURROGATE, readable

MOST_SENTENCES = 100
"""Of a text that a model is asked about: a longer one is no answer to a question."""

MAX_EVIDENCE = 200
"""Findings of one text that are stored as evidence, rejections first; all of them are checked."""

MAX_TEXT = 2_000
"""Characters of a sentence that evidence repeats; its span tells the rest."""


@dataclass
class _Checked:
    """A subject on its way through the checks."""

    subject: Subject
    text: str
    sources: Sources
    sentences: list[Span]
    findings: list[GroundingEvidence]
    opinions: list[Opinion] = field(default_factory=list)

    @property
    def absent(self) -> list[GroundingEvidence]:
        return [finding for finding in self.findings if finding.holds is False]


class GroundingVerifier:
    """Rejects a text with a number or name that no document has, or that a model finds unsupported; accepts one whose
    every sentence a model finds supported; else abstains.

    Score: 0 where something is absent; else the least of the sentences' P(supported).
    """

    name: str = "grounding"
    version: int = 1
    granularity: Granularity = Granularity.CLAIM
    proposition: Proposition = Proposition.SUPPORTED
    guarantee: Guarantee = Guarantee.OPINION
    """Of what it accepts. A rejection for something absent says `exact`."""

    def __init__(
        self,
        model: str | LanguageModel | None = None,
        threshold: float = 0.5,
        seed: int = 0,
        api_key_env: str | None = None,
    ) -> None:
        """
        Args:
            model: what `open_language_model` takes; None for the exact checks alone, which accept nothing.
            threshold: least probability with which an answer is for *supported*.
            seed: of the marks at the fences.
            api_key_env: of a server, the environment variable that holds its key.
        """
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0.0 <= threshold <= 1.0:
            raise UsageError(f"The threshold is a probability, got {threshold!r}.")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise UsageError(f"The seed is a whole number, got {seed!r}.")
        self._model = _opened(model, api_key_env) if isinstance(model, str) else model
        if self._model is not None:
            require(self._model, Ability.FIRST_TOKEN, purpose="The verifier grounding")
        self._threshold = float(threshold)
        self._seed = seed
        self._arguments = {
            "model": model if isinstance(model, str) or model is None else model.name,
            "threshold": self._threshold,
            "seed": seed,
            "api_key_env": api_key_env,
        }

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self._arguments

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        model = None if self._model is None else self._model.identity
        return {"model": model, "prompt": PROMPT, "reading": reading_digest()}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        chunks: dict[str, Chunk] = {}
        checked = [_unasked(subject) or _checked(subject, chunks) for subject in subjects]
        self._ask([each for each in checked if isinstance(each, _Checked)])
        return [
            abstention(self, subject, reason=each) if isinstance(each, str) else self._verdict(each, signature)
            for subject, each in zip(subjects, checked, strict=True)
        ]

    def _ask(self, checked: Sequence[_Checked]) -> None:
        """Gives each text that passed the exact checks the model's opinions of its sentences."""
        if self._model is None:
            return
        asked = [each for each in checked if not each.absent and len(each.sentences) <= MOST_SENTENCES]
        questions = [self._question(each, span) for each in asked for span in each.sentences]
        given = iter(opinions(self._model, questions, self._threshold))
        for each in asked:
            each.opinions = [next(given) for _ in each.sentences]

    def _question(self, checked: _Checked, span: Span) -> Question:
        return Question(
            problem=readable(checked.subject.problem),
            documents={name: chunk.text for name, chunk in checked.sources.chunks.items()},
            before=checked.text[: span.start].strip(),
            sentence=checked.text[span.start : span.end].strip(),
            seed=f"{self._seed}:{checked.subject.key.trace_digest}",
        )

    def _verdict(self, checked: _Checked, signature: str) -> Verdict:
        outcome, reason, score, guarantee = self._judged(checked)
        evidence = [*checked.findings, *(_sentence(checked, *each) for each in enumerate(checked.opinions))]
        evidence.sort(key=lambda each: each.holds is not False)  # what was missing comes first
        absent = checked.absent
        return Verdict(
            subject=checked.subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score=score,
            guarantee=guarantee,
            reason=reason,
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            cost=Cost(
                calls=2 * len(checked.opinions), prompt_tokens=sum(each.prompt_tokens for each in checked.opinions)
            ),
            raw={
                "sentences": len(checked.sentences),
                "numbers": sum(finding.about == "number" for finding in checked.findings),
                "names": sum(finding.about == "name" for finding in checked.findings),
                "absent": len(absent),
                "threshold": self._threshold,
                "answers": [list(map(dict, each.told)) for each in checked.opinions],
            },
        )

    def _judged(self, checked: _Checked) -> tuple[Outcome, str, float | None, Guarantee]:
        if absent := checked.absent:
            return Outcome.REJECT, f"{absent[0].about}_absent", 0.0, Guarantee.EXACT
        if self._model is None:
            return Outcome.ABSTAIN, "not_judged", None, self.guarantee
        if len(checked.sentences) > MOST_SENTENCES:
            return Outcome.ABSTAIN, "too_many_sentences", None, self.guarantee
        scores = [each.score for each in checked.opinions if each.score is not None]
        for opinion in checked.opinions:
            if opinion.supported is False:
                return Outcome.REJECT, opinion.reason, min(scores), self.guarantee
        unread = [each.reason for each in checked.opinions if each.supported is None]
        if unread:
            return Outcome.ABSTAIN, unread[0], None, self.guarantee
        return Outcome.ACCEPT, "all_sentences_supported", min(scores), self.guarantee


def _unasked(subject: Subject) -> str:
    """Why a subject is abstained from; empty where it is not."""
    if not any(map(str.isalnum, subject.text)):
        return "empty_text"
    if not any(any(map(str.isalnum, document)) for document in subject.documents.values()):
        return "no_documents"
    return "unreadable_text" if SURROGATE.search(subject.text) else ""


def _checked(subject: Subject, chunks: dict[str, Chunk]) -> _Checked:
    """`chunks` keeps what was read: drafts that compete share their documents."""
    for document in subject.documents.values():
        if document not in chunks:
            chunks[document] = Chunk.read(document)
    known = {readable(name): chunks[document] for name, document in subject.documents.items()}
    sources = Sources(known, Chunk.read(subject.problem))
    sentences = segment(subject.text, "sentence")
    findings = [finding for span in sentences for finding in sources.findings(subject.text, span)]
    return _Checked(subject, subject.text, sources, sentences, findings)


def _sentence(checked: _Checked, index: int, opinion: Opinion) -> GroundingEvidence:
    span = checked.sentences[index]
    text = checked.text[span.start : span.end]
    return GroundingEvidence(
        span=span, text=text[:MAX_TEXT], about="sentence", holds=opinion.supported, reason=opinion.reason
    )


def _opened(source: str, api_key_env: str | None) -> LanguageModel:
    from draftproof.drafting.language_models.open import open_language_model

    return open_language_model(source, models_folder=settings().models_folder, api_key_env=api_key_env)
