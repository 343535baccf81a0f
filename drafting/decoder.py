"""Whole generations by speculative decoding: what users of the engine call.

    decoder = SpeculativeDecoder("smollm2-135m", drafter="prompt-lookup")
    for generation in decoder.generate(["Name three rivers.", [{"role": "user", "content": "Hello"}]]):
        print(generation.text, generation.totals.acceptance_length)

Target, drafter, rule and policy are independent: any of them may be a name or an object.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

from draftproof.drafting.checks import check_prompt
from draftproof.drafting.drafter import Drafter
from draftproof.drafting.generation import Chunk, FinishReason, Generation, Progress
from draftproof.drafting.model import CachedModel
from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.parts import described, drafter_of, policy_of, rule_of
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policy import Policy
from draftproof.drafting.prompts import Prompt, ids_of, prompts_of
from draftproof.drafting.rows import RowOutcome
from draftproof.drafting.rule import Rule
from draftproof.drafting.sampling import GREEDY, Sampling, seeded
from draftproof.drafting.session import Session
from draftproof.drafting.turns import new_row, turn_of
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import DraftproofError, UsageError

Sink = Callable[[Generation], None]
"""Called with each finished generation, rounds and all: how a verdict log is fed."""


class SpeculativeDecoder:
    """Decodes with a target model, a drafter, an acceptance rule and a length policy.

    Several threads may generate with one decoder, and with several decoders over one model: their rounds take turns.
    The session under it is for one thread, as are drafters that several decoders are given.

    Args:
        target: a name, folder, hub id or GGUF file for `load_model`, a `LoadedModel` (`load_model` also makes one of
            a transformers model and its tokenizer), or a `CachedModel` (which has no tokenizer: prompts are token ids).
        drafter: `NAME[:key=value,…]` from the catalogue, a `Drafter`, or None for plain decoding.
        rule: the same, or a `Rule`; `auto` is the one that accepts most for the law of the drafter.
        policy: the same, or a `Policy`.
        sink: called with each finished generation, before it is returned.
    """

    def __init__(
        self,
        target: str | Path | LoadedModel | CachedModel,
        drafter: str | Drafter | None = "suffix",
        *,
        rule: str | Rule = "auto",
        policy: str | Policy = "cost",
        sink: Sink | None = None,
    ) -> None:
        self.drafter = drafter_of(drafter)
        self.rule = rule_of(rule)
        self.policy = policy_of(policy)
        if isinstance(target, str | Path):
            target = load_model(target)
        if not isinstance(target, LoadedModel | CachedModel):
            raise UsageError(
                f"A {type(target).__name__} cannot be decoded with as it is.",
                remedy="Give a name or folder, or load_model(model, tokenizer=tokenizer).",
            )
        self.configuration = {
            "drafter": described(drafter, self.drafter),
            "rule": described(rule, self.rule),
            "policy": described(policy, self.policy),
            "fingerprint": dict(getattr(self.drafter, "fingerprint", None) or {}),
        }
        """What the parts are, with their arguments and the digests of their weights, as JSON values."""
        loaded = target if isinstance(target, LoadedModel) else None
        self.model: CachedModel = target.model if isinstance(target, LoadedModel) else target
        self.tokenizer = None if loaded is None else loaded.tokenizer
        self.vocabulary: Vocabulary | None = None if loaded is None else loaded.vocabulary
        self.sink = sink
        self._turn = turn_of(self.model)
        with self._turn:  # passes are measured here
            self.session = Session(self.model, self.drafter, self.rule, self.policy, self.vocabulary)

    @property
    def costs(self) -> PassCosts | None:
        """What passes of the target cost; None where the policy does not ask."""
        return self.session.costs

    @property
    def plain_pass_ms(self) -> float | None:
        """What a pass over one token costs now, as the policy has followed it; None where the policy does not ask."""
        running = getattr(self.policy, "plain_costs", None) if self.drafter is not None else None
        return None if running is None else float(running.pass_ms(1))

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        max_new_tokens: int | None = 256,
        sampling: Sampling | Sequence[Sampling] = GREEDY,
        stop: str | Sequence[str] = (),
        stop_ids: frozenset[int] | None = None,
        logprobs: int | None = None,
        max_batch: int = 8,
    ) -> list[Generation]:
        """Generations of all prompts, in their order; up to `max_batch` rows are decoded at once, and a row that is
        done makes room for the next prompt at once.

        Args:
            prompts: one prompt or a list of them.
            max_new_tokens: most tokens of each; None leaves the context as the only limit.
            sampling: one for each prompt, or one for all: then each has a seed of its own that follows from the one
                given (`Generation.sampling` has it), the first that very seed.
            stop: generation ends before the first of these strings; they are not part of the text.
            stop_ids: generation ends with one of these tokens; None means the model's end-of-sequence ids.
            logprobs: report each token's log-probability and this many alternatives.

        Raises UsageError for prompts that cannot be read, ContextLengthError for prompts that leave no room.
        """
        each = prompts_of(prompts)
        samplings = seeded(sampling, len(each)) if isinstance(sampling, Sampling) else list(sampling)
        if len(samplings) != len(each):
            raise UsageError(f"There are {len(each)} prompts and {len(samplings)} samplings.")
        if max_batch < 1:
            raise UsageError(f"max_batch is {max_batch}, it must be at least 1.")
        waiting = [(index, self._read(prompt, index, len(each))) for index, prompt in enumerate(each)]
        waiting.reverse()
        done: dict[int, Generation] = {}
        running: dict[int, tuple[int, Progress]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < max_batch:
                    index, ids = waiting.pop()
                    row, progress = self._begin(ids, samplings[index], max_new_tokens, stop, stop_ids, logprobs)
                    running[row] = (index, progress)
                self._finish(running, done)
                if running:
                    self._advance({row: progress for row, (_, progress) in running.items()})
                    self._finish(running, done)
        finally:
            self._cancel({row: progress for row, (_, progress) in running.items()})
        return [done[index] for index in range(len(each))]

    def stream(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int | None = 256,
        sampling: Sampling = GREEDY,
        stop: str | Sequence[str] = (),
        stop_ids: frozenset[int] | None = None,
        logprobs: int | None = None,
    ) -> Generator[Chunk, None, None]:
        """The text of one prompt as it comes, a chunk a round; the last chunk carries the whole generation."""
        ids = self._read(prompt, 0, 1)
        row, progress = self._begin(ids, sampling, max_new_tokens, stop, stop_ids, logprobs)
        try:
            yield progress.chunk()
            while progress.finish_reason is None:
                self._advance({row: progress})
                yield progress.chunk()
        finally:
            self._cancel({row: progress})
        yield Chunk("", (), None, progress.generation())

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt. Chat messages go through the tokenizer's chat template, and none of them can write a
        control token; in a text, control tokens are read as such."""
        return ids_of(prompt, self.tokenizer, self.model.info.name)

    def _read(self, prompt: Prompt, index: int, count: int) -> list[int]:
        ids = self.encode(prompt)
        try:
            check_prompt(ids, self.model.info)
        except DraftproofError as error:
            if count > 1:
                error.add_note(f"It is prompt {index + 1} of {count}.")
            raise
        return ids

    def _begin(
        self,
        ids: list[int],
        sampling: Sampling,
        max_new_tokens: int | None,
        stop: str | Sequence[str],
        stop_ids: frozenset[int] | None,
        logprobs: int | None,
    ) -> tuple[int, Progress]:
        if max_new_tokens is not None and max_new_tokens < 1:
            raise UsageError(f"max_new_tokens is {max_new_tokens}, it must be at least 1.")
        if stop and self.vocabulary is None:
            raise UsageError("Stop strings need the target's tokenizer.", remedy="Use stop_ids.")
        row = new_row()
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        progress = Progress(self.model.info, ids, sampling, self.vocabulary, stops, self.parts, self.configuration)
        with self._turn:
            outcomes = self.session.open(
                {row: ids}, sampling=sampling, max_new_tokens=max_new_tokens, stop_ids=stop_ids, logprobs=logprobs
            )
            try:
                self._note(row, progress, outcomes[0])
            except BaseException:
                self.session.close([row])
                raise
        return row, progress

    @property
    def parts(self) -> dict[str, str]:
        """Names of drafter, rule and policy."""
        drafter = "none" if self.drafter is None else self.drafter.spec.name
        return {"drafter": drafter, "rule": self.rule.spec.name, "policy": self.policy.name}

    def _advance(self, running: Mapping[int, Progress]) -> None:
        with self._turn:
            for outcome in self.session.round(list(running)):
                self._note(outcome.row, running[outcome.row], outcome)

    def _note(self, row: int, progress: Progress, outcome: RowOutcome) -> None:
        state = self.session.rows[row]
        progress.add(outcome)
        if progress.finish_reason is None and outcome.done:
            ended = outcome.tokens[-1] in state.stop_ids
            progress.finish(FinishReason.STOP if ended else FinishReason.LENGTH)

    def _finish(self, running: dict[int, tuple[int, Progress]], done: dict[int, Generation]) -> None:
        for row in [row for row, (_, progress) in running.items() if progress.finish_reason is not None]:
            index, progress = running.pop(row)
            with self._turn:
                self.session.close([row])
                done[index] = progress.generation()
                if self.sink is not None:
                    self.sink(done[index])

    def _cancel(self, running: Mapping[int, Progress]) -> None:
        """Close rows that are done, or that an error or an interrupt left behind: the sink is told in any case."""
        with self._turn:
            self.session.close(list(running))
            for progress in running.values():
                if progress.finish_reason is None:
                    progress.finish(FinishReason.CANCELLED)
                if self.sink is not None:
                    self.sink(progress.generation())
