"""Text that the target writes itself: what drafters are trained on, because it is what they will have to guess.

Many rows share each pass, which on a CPU gives several times the tokens a second of one row. A job is a prompt with a
temperature; its random numbers depend on the seed and the job only. Finished jobs are appended to a JSONL file, so
that a killed run goes on where it stood: it repeats what was unfinished and neither loses nor doubles a job.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

import torch
from torch import Tensor

from draftproof.drafting.keyed_rng import Purpose
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import ContextLengthError, InputError, UsageError
from draftproof.kernels.philox import uniforms

FORMAT = "draftproof-self-text-1"


@dataclass(frozen=True)
class SelfText:
    """One prompt and what the target said to it."""

    job: int
    temperature: float
    prompt_length: int
    ids: tuple[int, ...]
    """Prompt and continuation."""

    @property
    def generated(self) -> int:
        return len(self.ids) - self.prompt_length


@dataclass(frozen=True)
class TextPlan:
    """What is to be generated. Job j takes prompt j and temperature j, counted round and round.

    With temperature 0 only, there is one job a prompt, and there may be fewer tokens than asked for.
    """

    prompts: tuple[tuple[int, ...], ...]
    """Token ids, with whatever the chat template adds."""
    tokens: int
    """Stop when jobs 0, 1, … have generated this many."""
    temperatures: tuple[float, ...] = (0.0, 0.0, 0.7)
    max_new_tokens: int = 256
    """Of one job."""
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompts or any(not prompt for prompt in self.prompts):
            raise UsageError("Text cannot be generated without prompts, and none of them may be empty.")
        if self.tokens < 1 or self.max_new_tokens < 1 or self.batch < 1:
            raise UsageError("tokens, max_new_tokens and batch must be at least 1.")
        if not self.temperatures or any(not 0.0 <= value < float("inf") for value in self.temperatures):
            raise UsageError(f"Temperatures must be 0 or positive and finite, got {list(self.temperatures)}.")

    @property
    def digest(self) -> str:
        """What the text depends on beside the target: a file of another plan is not gone on with."""
        stated = [self.prompts, self.temperatures, self.max_new_tokens, self.seed]
        return sha256(json.dumps(stated).encode()).hexdigest()

    def prompt(self, job: int) -> tuple[int, ...]:
        return self.prompts[job % len(self.prompts)]

    def temperature(self, job: int) -> float:
        """Counted on from one round over the prompts to the next. A prompt is answered greedily once: again, it would
        be the same text."""
        turn, prompt = divmod(job, len(self.prompts))
        each = [self._listed(prompt + earlier * len(self.prompts), earlier) for earlier in range(turn + 1)]
        return max(self.temperatures) if each[-1] == 0.0 and 0.0 in each[:-1] else each[-1]

    def _listed(self, job: int, turn: int) -> float:
        return self.temperatures[(job + turn) % len(self.temperatures)]

    def jobs(self) -> Iterator[int]:
        """All there are: without end, unless every temperature is 0."""
        if max(self.temperatures) == 0.0:
            return iter(range(len(self.prompts)))
        return count()


def generate(model: CachedModel, plan: TextPlan, file: Path, *, report: Report = silent) -> list[SelfText]:
    """Make `file` hold what `plan` asks for, and return it. Goes on with a file that an earlier run left."""
    done = _opened(model, plan, file)
    counted = sum(text.generated for text in done.values())
    waiting = (job for job in plan.jobs() if job not in done)
    active: dict[int, _Row] = {}
    report("generating", min(counted, plan.tokens), plan.tokens, "")
    with file.open("a", encoding="utf-8") as out:
        try:
            while True:
                while len(active) < plan.batch and counted + sum(row.new for row in active.values()) < plan.tokens:
                    job = next(waiting, None)
                    if job is None:
                        break
                    active[job] = _begin(model, plan, job)
                if not active:
                    break
                _step(model, active)
                for row in [row for row in active.values() if row.finished]:
                    del active[row.job]
                    model.drop_row(row.job)
                    text = row.text
                    done[text.job] = text
                    counted += text.generated
                    out.write(_line(text))
                    out.flush()
                so_far = counted + sum(row.new for row in active.values())
                report("generating", min(so_far, plan.tokens), plan.tokens, f"{len(active)} rows")
        finally:
            for job in active:
                model.drop_row(job)
    return _enough(done, plan.tokens)


def read(file: Path, tokens: int | None = None) -> list[SelfText]:
    """The texts of a file in the order of their jobs; `tokens` takes the shortest beginning that has so many."""
    _, texts, _ = _parsed(file)
    return _enough(texts, tokens) if tokens is not None else [texts[job] for job in sorted(texts)]


def digest(texts: Sequence[SelfText]) -> str:
    """Identifies the texts, for what is made from them."""
    hashed = sha256()
    for text in texts:
        hashed.update(json.dumps([text.job, text.prompt_length, text.ids]).encode())
    return hashed.hexdigest()


def _enough(done: dict[int, SelfText], tokens: int) -> list[SelfText]:
    """Jobs 0, 1, … until they have `tokens`: the same, however often the run was stopped, as jobs end in any order."""
    texts: list[SelfText] = []
    counted = 0
    for job in sorted(done):
        if counted >= tokens:
            break
        texts.append(done[job])
        counted += done[job].generated
    return texts


class _Row:
    """A job that is being generated."""

    def __init__(self, job: int, prompt: Sequence[int], temperature: float, draws: Tensor, eos: frozenset[int]) -> None:
        self.job = job
        self.temperature = temperature
        self.prompt_length = len(prompt)
        self.ids = list(prompt)
        self.draws = draws
        """[max_new_tokens] uniforms, one for each token."""
        self.eos = eos

    @property
    def new(self) -> int:
        return len(self.ids) - self.prompt_length

    @property
    def finished(self) -> bool:
        return self.new > 0 and (self.ids[-1] in self.eos or self.new == len(self.draws))

    @property
    def text(self) -> SelfText:
        return SelfText(self.job, self.temperature, self.prompt_length, tuple(self.ids))

    def take(self, logits: Tensor) -> None:
        """The next token from logits [V], by inverting the distribution function at this place's draw."""
        if self.temperature == 0.0:
            self.ids.append(int(logits.argmax()))
            return
        mass = torch.softmax(logits.double() / self.temperature, dim=0).cumsum(0)
        at = float(self.draws[self.new]) * float(mass[-1])
        self.ids.append(int(torch.searchsorted(mass, torch.tensor(at, dtype=mass.dtype, device=mass.device))))


def _begin(model: CachedModel, plan: TextPlan, job: int) -> _Row:
    prompt = plan.prompt(job)
    room = model.info.context_length - len(prompt)
    if room < 1:
        raise ContextLengthError(
            f"Prompt {job % len(plan.prompts)} has {len(prompt)} tokens; the context of {model.info.name} holds "
            f"{model.info.context_length}.",
            remedy="Leave it out, or shorten it.",
        )
    draws = uniforms(plan.seed, Purpose.TARGET, job, 0, torch.arange(min(plan.max_new_tokens, room)))
    row = _Row(job, prompt, plan.temperature(job), draws, model.info.eos_ids)
    model.add_row(job)
    result = model.forward([RowTokens(job, torch.tensor(prompt))], Wanted(logits="last"))
    assert result.logits is not None
    model.commit(job, range(len(prompt)))
    row.take(result.logits[0])
    return row


def _step(model: CachedModel, active: dict[int, _Row]) -> None:
    rows = [row for row in active.values() if not row.finished]
    if not rows:
        return
    result = model.forward([RowTokens(row.job, torch.tensor(row.ids[-1:])) for row in rows], Wanted(logits="last"))
    assert result.logits is not None
    for row, logits in zip(rows, result.logits, strict=True):
        model.commit(row.job, [0])
        row.take(logits)


# The file: a first line that says what it is, then a line for each finished job


def _line(text: SelfText) -> str:
    fields = {"job": text.job, "temperature": text.temperature, "prompt": text.prompt_length, "ids": list(text.ids)}
    return json.dumps(fields) + "\n"


def _opened(model: CachedModel, plan: TextPlan, file: Path) -> dict[int, SelfText]:
    """What the file holds already; a last line that was cut off by a kill is taken away."""
    header = {"format": FORMAT, "target_digest": model.info.digest, "plan": plan.digest}
    if not file.exists() or not file.stat().st_size:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return {}
    found, texts, whole = _parsed(file)
    if found != header:
        raise UsageError(
            f"{file} holds text of another target or of other prompts, temperatures, lengths or seeds.",
            remedy="Name another output folder, or delete the file.",
        )
    if whole < file.stat().st_size:
        with file.open("r+b") as out:
            out.truncate(whole)
    return texts


def _parsed(file: Path) -> tuple[dict[str, str], dict[int, SelfText], int]:
    """Header, texts by job, and how many bytes hold whole lines."""
    texts: dict[int, SelfText] = {}
    header: dict[str, str] = {}
    whole = 0
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            if not raw.endswith(b"\n"):
                break
            whole += len(raw)
            try:
                fields = json.loads(raw)
                if number == 1:
                    if fields["format"] != FORMAT:
                        raise ValueError(f"its format is {fields['format']!r}, not {FORMAT!r}")
                    header = fields
                    continue
                ids = tuple(int(token) for token in fields["ids"])
                text = SelfText(int(fields["job"]), float(fields["temperature"]), int(fields["prompt"]), ids)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{file}:{number}: not a line of generated text: {error}", remedy="Delete the line or the file."
                ) from error
            if not 0 < text.prompt_length < len(ids) or min(ids) < 0:
                raise InputError(f"{file}:{number}: {len(ids)} ids with a prompt of {text.prompt_length}.")
            texts[text.job] = text
    return header, texts, whole
