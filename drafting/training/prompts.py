"""Prompts that the target answers in training: from a file, or a few of our own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from draftproof.drafting.chat_prompts import chat_ids
from draftproof.errors import InputError

MAX_CHARACTERS = 8_000
"""Of one prompt; what is longer is cut, since a whole book would fill the context."""

_FIELDS = ("prompt", "problem", "question", "instruction", "text")


def read_prompts(file: Path) -> list[str]:
    """Prompts of a file, which may be gzipped; a broken line is an error that names it, blank ones do not count.

    A line is a prompt; in `.jsonl` files it is an object with a field `prompt`, `problem`, `question`, `instruction`
    or `text`, or the first of a list `turns`, or the first user message of `messages`.
    """
    prompts: list[str] = []
    zipped = file.suffix == ".gz"
    as_json = (file.with_suffix("") if zipped else file).suffix == ".jsonl"
    try:
        with gzip.open(file, "rt", encoding="utf-8") if zipped else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    text = _of_record(file, number, line) if as_json else line.strip()
                    prompts.append(text[:MAX_CHARACTERS])
    except (OSError, EOFError) as error:
        raise InputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text: {error}.", remedy="Save it as UTF-8.") from error
    if not prompts:
        raise InputError(f"{file} holds no prompts.", remedy="Put one on each line.")
    return prompts


def _of_record(file: Path, number: int, line: str) -> str:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{file}:{number}: not JSON: {error.msg}.", remedy="A .jsonl file has one object a line."
        ) from error
    text = _prompt_of(record) if isinstance(record, dict) else None
    if text is None or not text.strip():
        raise InputError(
            f"{file}:{number}: no prompt in it.",
            remedy=f"Expected one of the fields {', '.join(_FIELDS)}, turns or messages, with text.",
        )
    return text


def _prompt_of(record: dict[str, Any]) -> str | None:
    for name in _FIELDS:
        if isinstance(record.get(name), str):
            return str(record[name])
    turns = record.get("turns")
    if isinstance(turns, list) and turns and isinstance(turns[0], str):
        return turns[0]
    messages = record.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user" and isinstance(message.get("content"), str):
            return str(message["content"])
    return None


def encode_prompts(
    texts: Sequence[str],
    encode: Callable[[str], Sequence[int]],
    *,
    room: int,
    because: str = "",
    remedy: str = "Give shorter prompts.",
) -> tuple[tuple[int, ...], ...]:
    """Ids of each prompt; those that come out empty or longer than `room` are left out.

    `because` says where `room` comes from, and `remedy` what can be done, should no prompt be left.
    """
    encoded = [tuple(encode(text)) for text in texts]
    kept = tuple(ids for ids in encoded if 0 < len(ids) <= room)
    if not kept:
        shortest = min((len(ids) for ids in encoded if ids), default=0)
        cause = f": {because}" if because else ""
        raise InputError(
            f"None of the {len(texts)} prompts has between 1 and {room:,} tokens{cause}. The shortest has "
            f"{shortest:,}.",
            remedy=remedy,
        )
    return kept


BUILT_IN: tuple[str, ...] = (
    "Natalia has 48 apples. She gives a third of them to her neighbour and eats 4. How many are left? Show each step.",
    "A train leaves at 9:40 and arrives at 13:05. How long does it travel? Explain your calculation.",
    "Solve 3x + 7 = 31 for x and check the result.",
    "What is 17 times 23? Work it out step by step.",
    "A rectangle is 8 cm wide and has an area of 96 square centimetres. Find its perimeter.",
    "A shop takes 20% off a coat that costs 150 euros and then another 10% off the new price. What does it cost now?",
    "Three friends share a bill of 87 euros so that the first pays twice as much as each of the others. Who pays what?",
    "Explain why the sum of two odd numbers is even.",
    "Prove that the square root of 2 is not a fraction.",
    "What is the probability of at least one six when a die is thrown four times?",
    "Convert 2.5 hours to minutes and seconds, and explain how.",
    "List the prime numbers below 50 and say how you found them.",
    "The average of five numbers is 12. Four of them are 9, 10, 14 and 15. What is the fifth?",
    "If all bloops are razzies and all razzies are lazzies, are all bloops lazzies? Reason carefully.",
    "A farmer has chickens and cows, 30 heads and 84 legs in all. How many of each are there?",
    "Compute the derivative of x^3 - 4x^2 + 6 and find where it is zero.",
    "Write a Python function that returns the n-th Fibonacci number, with a docstring.",
    "Write a Python function that checks whether a string is a palindrome, and a few tests of it.",
    "Explain what a hash table is and when to use one.",
    "Write an SQL query for the three customers with the largest total of orders, and explain each part.",
    "What is the difference between a process and a thread?",
    "Write a shell command that counts the lines of all text files below the current folder.",
    "Explain recursion to a twelve-year-old, with an example.",
    "Describe how a binary search works and what it costs.",
    "Explain photosynthesis in simple terms.",
    "Why is the sky blue, and why is a sunset red?",
    "How does a vaccine protect against a disease?",
    "What causes the seasons of the year?",
    "Describe the water cycle in five sentences.",
    "How do tides come about?",
    "What is inflation, and what can a central bank do about it?",
    "Summarise the causes of the First World War.",
    "Who was Marie Curie, and what did she discover?",
    "Describe the main differences between a parliament and a presidency.",
    "Give me a recipe for a vegetable soup for four people.",
    "Plan a weekend in Lisbon for two people who like museums and food.",
    "Write a polite email that asks a colleague to move a meeting to Thursday.",
    "Write a short story about a lighthouse keeper who finds a message in a bottle.",
    "Write a poem of eight lines about autumn.",
    "Describe a market in the morning, with its sounds and smells.",
    "Name five ways to save energy at home and say why each helps.",
    "How should I prepare for a job interview as an accountant?",
    "What are the advantages and disadvantages of working from home?",
    "Explain the rules of chess to a beginner.",
    "Compare cats and dogs as pets for a small flat.",
    "Give three tips for learning a language as an adult, with reasons.",
    "What should a good summary of a scientific paper contain?",
    "Translate 'Where is the railway station?' into French, German and Spanish.",
)
"""Prompts for when no file is given: arithmetic and reasoning first, then code, facts and everyday writing."""


def prompt_ids(tokenizer: Any, text: str) -> list[int]:
    """A prompt as the target is asked: as a user's message where it has a chat template, else as text to go on from."""
    if getattr(tokenizer, "chat_template", None):
        return chat_ids([{"role": "user", "content": text}], tokenizer)
    return [int(token) for token in tokenizer(text)["input_ids"]]
