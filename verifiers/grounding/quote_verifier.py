"""The verifier `quote`: does every quotation of a text stand in a document, word for word?

Guarantee *exact*: the characters were compared, less what `quotes` says that copying may change, and each quotation
that was found is told with its place and the document's own characters. It says nothing of whether a quotation proves
what it is quoted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from draftproof.errors import UsageError
from draftproof.subject import Granularity, Subject
from draftproof.trace import Span
from draftproof.verdict import GroundingEvidence, Guarantee, Outcome, Proposition, QuoteEvidence, Verdict
from draftproof.verifier import abstention, identity
from draftproof.verifiers.grounding.quotes import FoldedText, Quotation, find, parts, quotations
from draftproof.verifiers.grounding.reading import reading_digest
from draftproof.verifiers.grounding.words import SURROGATE, readable

MOST_QUOTATIONS = 200
MAX_EVIDENCE = 200
MAX_TEXT = 2_000
"""Characters of a passage that evidence repeats; its span tells the rest."""


@dataclass(frozen=True)
class _Found:
    quotation: Quotation
    document: str | None
    places: Sequence[Span]


@dataclass(frozen=True)
class QuoteVerifier:
    """Accepts a text whose every quotation is in one document, rejects one with a quotation that is in none, abstains
    from one that quotes nothing."""

    of: Literal["marks", "text"] = "marks"
    """What is quoted: what stands in quotation marks, or the subject's whole text."""
    name: str = "quote"
    version: int = 1
    granularity: Granularity = Granularity.CLAIM
    proposition: Proposition = Proposition.SUPPORTED
    guarantee: Guarantee = Guarantee.EXACT

    def __post_init__(self) -> None:
        if self.of not in ("marks", "text"):
            raise UsageError(
                f"A quotation is what stands in marks or the text, got of={self.of!r}.", remedy="of=marks or of=text."
            )

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {"of": self.of}

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"reading": reading_digest()}

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        signature = identity(self)
        folded: dict[str, FoldedText] = {}
        return [self._verdict(subject, signature, folded) for subject in subjects]

    def _verdict(self, subject: Subject, signature: str, folded: dict[str, FoldedText]) -> Verdict:
        if SURROGATE.search(subject.text):
            return abstention(self, subject, reason="unreadable_text")
        quoted = self._quotations(subject.text)
        if not quoted:
            return abstention(self, subject, reason="no_quote")
        if not any(any(map(str.isalnum, document)) for document in subject.documents.values()):
            return abstention(self, subject, reason="no_documents")
        if len(quoted) > MOST_QUOTATIONS:
            return abstention(self, subject, reason="too_many_quotes", raw={"quotes": len(quoted)})
        for document in subject.documents.values():
            if document not in folded:
                folded[document] = FoldedText.of(readable(document))
        found = [_sought(each, subject.documents, folded) for each in quoted if each.closed]
        outcome, reason = _judged(found, all(each.closed for each in quoted))
        evidence = [item for each in found for item in _evidence(each, subject.documents)]
        evidence.sort(key=lambda item: not (isinstance(item, GroundingEvidence) and item.holds is False))
        return Verdict(
            subject=subject.key,
            verifier=signature,
            proposition=self.proposition,
            outcome=outcome,
            score={Outcome.ACCEPT: 1.0, Outcome.REJECT: 0.0}.get(outcome),
            guarantee=self.guarantee,
            reason=reason,
            evidence=tuple(evidence[:MAX_EVIDENCE]),
            raw={"quotes": len(quoted), "absent": sum(each.document is None for each in found)},
        )

    def _quotations(self, text: str) -> list[Quotation]:
        if self.of == "marks":
            return list(quotations(text))
        begin, end = len(text) - len(text.lstrip()), len(text.rstrip())
        whole = text[begin:end]
        if len(whole) > 1 and whole[0] in "\"“„«‘'" and whole[-1] in "\"”“»’'":
            begin, end = begin + 1, end - 1
        return [Quotation(begin, end, text[begin:end])] if any(map(str.isalnum, text[begin:end])) else []


def _judged(found: Sequence[_Found], all_closed: bool) -> tuple[Outcome, str]:
    if any(each.document is None for each in found):
        return Outcome.REJECT, "quote_absent"
    return (Outcome.ACCEPT, "all_quotes_found") if all_closed else (Outcome.ABSTAIN, "unclosed_quote")


def _sought(quotation: Quotation, documents: Mapping[str, str], folded: Mapping[str, FoldedText]) -> _Found:
    wanted = parts(quotation.text)
    for name, document in documents.items():
        places = find(wanted, folded[document])
        if places:
            return _Found(quotation, name, places)
    return _Found(quotation, None, ())


def _evidence(found: _Found, documents: Mapping[str, str]) -> list[GroundingEvidence | QuoteEvidence]:
    """The quotation, and each of its parts as the document has it."""
    document = None if found.document is None else readable(found.document)
    quotation = GroundingEvidence(
        span=Span(start=found.quotation.start, end=found.quotation.end),
        text=found.quotation.text[:MAX_TEXT],
        about="quote",
        holds=document is not None,
        document=document,
        found=Span(start=found.places[0].start, end=found.places[-1].end) if found.places else None,
        reason="absent" if document is None else "found",
    )
    if found.document is None or document is None:
        return [quotation]
    text = readable(documents[found.document])
    passages = [
        QuoteEvidence(document=document, span=place, text=text[place.start : place.end][:MAX_TEXT])
        for place in found.places
    ]
    return [quotation, *passages]
