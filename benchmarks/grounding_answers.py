"""Answers that are right, and the same with one wrong number or name planted in them, from public data sets.

Nothing here uses the verifier that is measured with it: what is a number or a name is told by the data sets' own
answers and by plain patterns, so that what the verifier cannot read is planted as well.

Right answers are sentences of the gold passage that hold the answer, the answer alone, bare or as `The answer is …`,
the same sentences spelled in another way, whole sets of supporting sentences, and the conclusions that PubMedQA's
authors wrote themselves. A planted number has another value, a planted name is the answer of another question of the
set with as many words, a planted month another month; none stands in the passage or the question.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from draftproof.segment import segment

SETS = ("nq_oracle", "xquad_en", "hotpotqa_sample", "pubmedqa")

COUNTS = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
ORDINALS = [
    "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth",
]  # fmt: skip
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July",
    "August", "September", "October", "November", "December",
]  # fmt: skip
SMALL = frozenset(
    ("of", "the", "and", "de", "la", "le", "van", "von", "der", "den", "di", "da", "del", "al",
     "el", "for", "in", "on", "at", "a", "an", "to", "with", "&")
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """An answer with the passages that it cites."""

    data: str
    problem: str
    """Digest of the passage: what belongs together."""
    form: str
    question: str
    documents: dict[str, str]
    text: str
    answer: str
    """The part of `text` that a plant takes the place of; empty where none does."""
    kind: str = ""
    """Of what was planted: number, name or month; empty for a right answer."""
    planted: str = ""

    @property
    def passage(self) -> str:
        return "\n".join(self.documents.values())

    @property
    def tuned(self) -> bool:
        """Whether it belongs to the half that rules were made with."""
        return int(self.problem[0], 16) % 2 == 0


def right_answers(folder: Path) -> Iterator[Answer]:
    readers = {"nq_oracle": _natural_questions, "xquad_en": _xquad, "hotpotqa_sample": _hotpot, "pubmedqa": _pubmed}
    for name, reader in readers.items():
        texts = [gzip.decompress(path.read_bytes()).decode() for path in sorted((folder / name).glob("*.jsonl.gz"))]
        for row in (json.loads(line) for text in texts for line in text.split("\n") if line):
            for answer in reader(row):
                yield answer
                other = respelled(answer.text)
                if answer.form == "sentence" and other != answer.text:
                    yield replace(answer, form="respelled", text=other, answer=respelled(answer.answer))


def _answers(
    data: str, question: str, documents: dict[str, str], sentences: Sequence[str], answer: str
) -> Iterator[Answer]:
    problem = hashlib.sha256("\n".join(documents.values()).encode()).hexdigest()
    whole = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w|[.,]\d)")
    holding = next((each for each in sentences if whole.search(each)), None)
    if not any(map(whole.search, documents.values())):
        return  # cut off within a word or a number
    base = Answer(data, problem, "sentence", question, documents, "", answer)
    if holding is not None:
        yield replace(base, text=holding.strip())
    yield replace(base, form="statement", text=f"The answer is {answer.rstrip('.')}.")
    yield replace(base, form="bare", text=answer)


def _sentences(text: str) -> list[str]:
    return [text[span.start : span.end] for span in segment(text, "sentence")]


def _natural_questions(row: dict[str, Any]) -> Iterator[Answer]:
    text = row["ctxs"][0]["text"]
    answer = next((each for each in row["answers"] if each in text), None)
    if answer is not None:
        yield from _answers("nq_oracle", row["question"], {"passage": text}, _sentences(text), answer)


def _xquad(row: dict[str, Any]) -> Iterator[Answer]:
    for paragraph in row["paragraphs"]:
        text = paragraph["context"]
        for asked in paragraph["qas"]:
            answer = asked["answers"][0]["text"]
            yield from _answers("xquad_en", asked["question"], {"passage": text}, _sentences(text), answer)


def _hotpot(row: dict[str, Any]) -> Iterator[Answer]:
    passages = dict(row["context"])
    titles = list(dict.fromkeys(title for title, _ in row["supporting_facts"]))
    documents = {title: "".join(passages[title]) for title in titles if title in passages}
    facts = [
        passages[title][index]
        for title, index in row["supporting_facts"]
        if title in passages and index < len(passages[title])
    ]
    if not facts:
        return
    problem = hashlib.sha256("\n".join(documents.values()).encode()).hexdigest()
    whole = " ".join(fact.strip() for fact in facts)
    yield Answer("hotpotqa_sample", problem, "supporting", row["question"], documents, whole, "")
    if row["answer"] not in ("yes", "no") and row["answer"] in "\n".join(documents.values()):
        yield from _answers("hotpotqa_sample", row["question"], documents, facts, row["answer"])


_ACRONYM = re.compile(r"(?<![\w-])[A-Z]{2,6}s?(?![\w-])")
_FIGURE = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)*(?![\w,]|\.\d)")


def _pubmed(row: dict[str, Any]) -> Iterator[Answer]:
    documents = {f"section {number}": text for number, text in enumerate(row["CONTEXTS"])}
    problem = hashlib.sha256("\n".join(documents.values()).encode()).hexdigest()
    base = Answer("pubmedqa", problem, "sentence", row["QUESTION"], documents, "", "")
    draw = random.Random(problem)
    for pattern in (_FIGURE, _ACRONYM):
        holding = [s for text in row["CONTEXTS"] for s in _sentences(text) if pattern.search(s)]
        if holding:
            sentence = draw.choice(holding)
            yield replace(base, text=sentence.strip(), answer=draw.choice(pattern.findall(sentence)))
    conclusion = row["LONG_ANSWER"]
    parts = _FIGURE.findall(conclusion) + _ACRONYM.findall(conclusion)
    yield replace(base, form="conclusion", text=conclusion, answer=draw.choice(parts) if parts else "")


def planted(answers: Sequence[Answer]) -> Iterator[Answer]:
    """Each answer that has one, with its number, name or month made wrong; a date is made wrong in two ways."""
    pools: dict[tuple[str, int], list[str]] = {}
    for each in answers:
        if is_name(each):
            pools.setdefault((each.data, len(each.answer.split())), []).append(each.answer)
    names = {key: sorted(set(pool)) for key, pool in pools.items()}
    for each in answers:
        if not each.answer:
            continue
        draw = random.Random(f"{each.problem}{each.question}{each.form}")
        wrongs = [("month", other_month(each, draw)), ("number", other_number(each, draw))]
        if is_name(each):
            wrongs.append(("name", other_name(each, names[each.data, len(each.answer.split())], draw)))
        for kind, wrong in wrongs:
            if wrong is not None:
                text = re.sub(rf"(?<!\w){re.escape(each.answer)}(?!\w)", lambda _, w=wrong: w, each.text, count=1)
                if text != each.text:
                    yield replace(each, text=text, kind=kind, planted=wrong)


def is_name(answer: Answer) -> bool:
    """Whether the answer is written as a name: every word with a capital, also where no sentence begins."""
    words = answer.answer.split()
    if not words or re.search(r"\d", answer.answer) or any(month in words for month in MONTHS):
        return False
    if not all(word[0].isupper() or word.lower() in SMALL for word in words) or words[0].lower() in SMALL:
        return False
    if {word.lower() for word in words} & {*COUNTS, *ORDINALS, "one", "first"}:
        return False
    return bool(re.search(rf"[a-z,] (?:the )?{re.escape(answer.answer)}", answer.passage))


def other_name(answer: Answer, pool: Sequence[str], draw: random.Random) -> str | None:
    known = f"{answer.passage}\n{answer.question}".lower()
    options = [name for name in pool if name.lower() not in known]
    return draw.choice(options) if options else None


def other_month(answer: Answer, draw: random.Random) -> str | None:
    match = re.search(rf"\b(?:{'|'.join(MONTHS)})\b(?=\.? \d)|(?<=\d )(?:{'|'.join(MONTHS)})\b", answer.answer)
    known = f"{answer.passage}\n{answer.question}"
    options = [month for month in MONTHS if month[:3] not in known]
    if match is None or not options:
        return None
    return answer.answer[: match.start()] + draw.choice(options) + answer.answer[match.end() :]


def other_number(answer: Answer, draw: random.Random) -> str | None:
    matches = list(re.finditer(rf"\d+(?:[.,]\d+)*|\b(?:{'|'.join([*COUNTS, *ORDINALS[1:]])})\b", answer.answer))
    known = _known_numbers(f"{answer.passage}\n{answer.question}")
    if not matches:
        return None
    match = draw.choice(matches)
    options = [other for other in _others(match[0], draw) if _plain(other) not in known]
    return answer.answer[: match.start()] + options[0] + answer.answer[match.end() :] if options else None


def _others(written: str, draw: random.Random) -> list[str]:
    """Other numbers, written alike, in random order."""
    for words in (COUNTS, ORDINALS[1:]):
        if written in words:
            return draw.sample(words, len(words))
    if re.fullmatch(r"1\d{3}|20\d{2}", written):
        return [str(int(written) + by) for by in draw.sample([n for n in range(-40, 41) if n], 80)]
    digits = [at for at, sign in enumerate(written) if sign.isdigit()]
    found = []
    for _ in range(200):
        signs = list(written)
        for at in draw.sample(digits, draw.randint(1, len(digits))):
            signs[at] = draw.choice("123456789" if at == digits[0] else "0123456789")
        found.append("".join(signs))
    return found


def _plain(written: str) -> str:
    """A value as digits: `1,200` and `1200.0` are one."""
    lower = written.lower()
    for words, first in ((COUNTS, 2), (ORDINALS, 2)):
        if lower in words:
            return str(words.index(lower) + first)
    plain = lower.replace(",", "")
    plain = (plain.lstrip("0") or "0") if "." not in plain else plain.lstrip("0").rstrip("0").rstrip(".")
    return plain or "0"


def _known_numbers(text: str) -> set[str]:
    found = re.findall(r"\d+(?:[.,]\d+)*|[A-Za-z]+", text)
    parts = re.findall(r"\d+", text)
    return {_plain(each) for each in [*found, *parts]}


_MONTH = "|".join(MONTHS)
_RULES: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (
        rf"\b(?:({_MONTH}) (\d{{1,2}}), (\d{{4}})|(?<!\d )(\d{{1,2}}) ({_MONTH}) (\d{{4}}))\b",
        lambda m: f"{m[2]} {m[1]} {m[3]}" if m[1] else f"{m[5]} {m[4]}, {m[6]}",
    ),
    (r"(?<![\d,.])(\d{1,3}),(\d{3})\b(?![,.]\d)", lambda m: m[1] + m[2]),
    (r"(?<=\d)(?:(%)(?!\w)| percent\b| per cent\b)", lambda m: " percent" if m[1] else "%"),
    (r"\bU\.S\.(?=\s[a-z])", lambda _: "US"),
    (
        rf"(?<![\d.,·-])(?<!hundred )(?<!thousand )\b(?:([2-9]|1[0-2])|({'|'.join(COUNTS)}))(?= [a-z]{{3,}})",
        lambda m: COUNTS[int(m[1]) - 2] if m[1] else str(COUNTS.index(m[2]) + 2),
    ),
    (r"’", lambda _: "'"),
    (r"–", lambda _: "-"),
)


def respelled(text: str) -> str:
    """`text` with numbers, dates, marks and accents written in another usual way."""
    for pattern, instead in _RULES:
        text = re.sub(pattern, instead, text)
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
