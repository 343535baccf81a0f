"""What judges are asked, for each kind of subject and each proposition: words only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from draftproof.subject import Granularity, Subject

Level = Literal["step", "trace", "claim", "document"]
About = Literal["correct", "supported"]

RIGHT, WRONG = "right", "wrong"

NOUNS: dict[Level, str] = {"step": "step", "trace": "solution", "claim": "claim", "document": "answer"}

_REFERENCE = "The final answer that is known to be right ({noun} may be right without naming it):"
_JUDGED: dict[Level, str] = {
    "step": "the last step",
    "trace": "the solution",
    "claim": "the last claim",
    "document": "the answer",
}
_CORRECT: dict[Level, dict[str, str]] = {
    "step": {
        RIGHT: "Is the last step correct: is all that it states true, and does it follow from the problem and the"
        " earlier steps?",
        WRONG: "Is there a mistake in the last step: does it state something that is not true, or that does not follow"
        " from the problem and the earlier steps?",
    },
    "trace": {
        RIGHT: "Is the solution correct: is all that it states true, and is its final answer right?",
        WRONG: "Is there a mistake in the solution: does it state something that is not true, or is its final answer"
        " wrong?",
    },
    "claim": {
        RIGHT: "Is the last claim correct: is all that it states true?",
        WRONG: "Is there a mistake in the last claim: does it state something that is not true?",
    },
    "document": {
        RIGHT: "Is the answer correct: does it answer the question, and is all that it states true?",
        WRONG: "Is there a mistake in the answer: does it miss the question, or state something that is not true?",
    },
}
_SUPPORTED = {
    RIGHT: "Do the documents support {judged}: does all that it states follow from them alone?",
    WRONG: "Is {judged} without support: does it state something that contradicts the documents, or that they do not"
    " say?",
}
_YES_NO = "Answer with one word, yes or no.\nAnswer:"
_DIGIT = "Answer with one digit, from 0 (certainly not) to 9 (certainly).\nAnswer:"
_LIST = (
    "The blocks above show {count} candidates, {first} to {last}. Which {noun} is the best: right, if only one is, and"
    " else the one with the fewest mistakes? Answer with the candidate's letter alone.\nAnswer:"
)

PROMPTS = (NOUNS, _REFERENCE, _JUDGED, _CORRECT, _SUPPORTED, _YES_NO, _DIGIT, _LIST)


def question(level: Level, about: About, asked: str, *, digit: bool) -> str:
    """`asked`: RIGHT or WRONG, what a yes or a nine says of the subject."""
    words = _CORRECT[level][asked] if about == "correct" else _SUPPORTED[asked].format(judged=_JUDGED[level])
    return f"{words} {_DIGIT if digit else _YES_NO}"


def choice(level: Level, labels: Sequence[str]) -> str:
    return _LIST.format(count=len(labels), first=labels[0], last=labels[-1], noun=NOUNS[level])


def premises(subject: Subject, level: Level, about: About, *, reference: bool) -> list[tuple[str, str]]:
    """The blocks before what is judged. Documents are numbered: their names come from outside."""
    asked = "Problem:" if level in ("step", "trace") else "Question:"
    blocks = [(asked, subject.problem)]
    if reference:
        blocks.append((_REFERENCE.format(noun=f"a {NOUNS[level]}"), subject.reference_answer or ""))
    if about == "supported":
        blocks += [(f"Document {number}:", text) for number, text in enumerate(subject.documents.values(), 1)]
    noun = NOUNS[level].capitalize()
    return blocks + [(f"{noun} {number}:", step.strip()) for number, step in enumerate(subject.context, 1)]


def judged(subject: Subject, level: Level) -> tuple[str, str]:
    """The block that is judged. Steps are numbered on, so that the next one's question begins with all of this."""
    noun = NOUNS[level].capitalize()
    numbered = level in ("step", "claim") or subject.context
    return f"{noun} {len(subject.context) + 1}:" if numbered else f"{noun}:", subject.text.strip()


def granularity(level: Level) -> Granularity:
    return Granularity(level)
