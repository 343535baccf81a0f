"""Rows being decoded, one draft-then-verify round at a time.

A session joins target, drafter, rule and policy, and owns what each row has committed. `SpeculativeDecoder` builds
whole generations on it; pipelines use it directly, because they stop between rounds, put tokens of another model in
(`force`) and take whole steps back (`rewind`).

Between rounds a row's cache holds every committed token but the last, the pending token, which opens the next pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from draftproof.drafting.checks import check_draft, check_parts, check_prompt
from draftproof.drafting.draft import Draft, empty_draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel, Pass
from draftproof.drafting.pass_costs import PassCosts, measure_pass_costs
from draftproof.drafting.passes import prefill_pass, verify_pass
from draftproof.drafting.penalties import penalised
from draftproof.drafting.policy import Policy
from draftproof.drafting.rows import RowOutcome, RowState, logprobs_of
from draftproof.drafting.rule import Decision, Rule, Verification
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.settlement import settle
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import ContextLengthError, OutOfMemoryError, UsageError


@dataclass
class Session:
    """Draft-then-verify over rows with stable ids. Not safe to share between threads."""

    target: CachedModel
    drafter: Drafter | None
    rule: Rule
    policy: Policy
    vocabulary: Vocabulary | None = None
    costs: PassCosts | None = None
    """Measured here when the policy needs them and they are not given."""
    rows: dict[int, RowState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._broken: set[int] = set()
        self._taps: dict[int, int] = {}
        self._tapped: tuple[int, ...] = ()
        if self.drafter is None:
            return
        spec = self.drafter.spec
        check_parts(self.target, spec, self.rule.spec, self.vocabulary)
        layers = self.target.info.n_layers
        self._taps = {layer: layer if layer >= 0 else layers + 1 + layer for layer in spec.hidden_layers}
        self._tapped = tuple(dict.fromkeys(self._taps.values()))
        self.drafter.bind(Binding(self.target, self.vocabulary if "text" in spec.needs else None))
        if self.policy.needs_costs and self.costs is None:
            self.costs = measure_pass_costs(self.target)
        self.policy.bind(self.costs, spec)

    # The life of a row

    def open(
        self,
        prompts: Mapping[int, Sequence[int]],
        *,
        sampling: Sampling = GREEDY,
        max_new_tokens: int | None = None,
        stop_ids: frozenset[int] | None = None,
        logprobs: int | None = None,
    ) -> list[RowOutcome]:
        """Begin rows with their prompts; one pass (or several, for long prompts) gives each its first token.

        `stop_ids` None means the model's end-of-sequence ids. Raises UsageError for an empty prompt or an id out of
        range, ContextLengthError for a prompt that leaves no room for a token. Then none of the rows is opened.
        """
        states: dict[int, RowState] = {}
        for row, prompt in prompts.items():
            if row in self.rows:
                raise UsageError(f"Row {row} is open already.")
            check_prompt(prompt, self.target.info)
            if logprobs is not None and not 0 <= logprobs <= self.target.info.vocab_size:
                raise UsageError(f"logprobs is {logprobs}; expected 0 … {self.target.info.vocab_size} alternatives.")
            room = self.target.info.context_length - len(prompt)
            limit = len(prompt) + (room if max_new_tokens is None else min(room, max_new_tokens))
            stops = self.target.info.eos_ids if stop_ids is None else stop_ids
            states[row] = RowState(sampling, KeyedRng(sampling.seed), list(prompt), len(prompt), stops, limit, logprobs)
        if not states:
            return []
        added: list[int] = []
        try:
            for row in states:
                self.target.add_row(row)
                added.append(row)
            return self._prefill(states)
        except BaseException as error:
            self._abandon(added, error)
            raise

    def _abandon(self, rows: Sequence[int], error: BaseException) -> None:
        """Forget rows that `error` kept from being opened whole.

        The drafter may know some of them or none, and may be what failed: what it raises now is noted in `error`, the
        one that counts.
        """
        for row in rows:
            self.target.drop_row(row)
            if self.rows.pop(row, None) is not None and self.drafter is not None:
                try:
                    self.drafter.stop([row])
                except Exception as also:
                    error.add_note(
                        f"The drafter {self.drafter.spec.name!r} could not forget row {row}: "
                        f"{type(also).__name__}: {also}"
                    )

    def close(self, rows: Sequence[int]) -> None:
        """Forget rows; their memory serves others."""
        self._state(*rows)
        for row in rows:
            self.target.drop_row(row)
            del self.rows[row]
        self._broken -= set(rows)
        if self.drafter is not None:
            self.drafter.stop(rows)
            self.policy.forget(rows)

    def rewind(self, row: int, length: int, *, seed: int | None = None) -> None:
        """Take back every token from `length` on. The prompt stays.

        Without a new `seed`, what follows is drawn from the same numbers as before, and comes out the same after the
        same text. Whoever rejects a continuation and wants another one gives a seed that the row has not had.
        """
        state = self._usable(row)
        if not state.prompt_length < length <= len(state.tokens):
            raise UsageError(
                f"Row {row} has {len(state.tokens)} tokens, {state.prompt_length} of them the prompt: it cannot be "
                f"rewound to {length}.",
                remedy="At least one token after the prompt stays.",
            )
        if seed is not None:
            state.sampling = replace(state.sampling, seed=seed)
            state.rng = KeyedRng(seed)
        if length == len(state.tokens):
            return
        with self._breaking(row):
            self.target.truncate(row, length - 1)
            del state.tokens[length:]
            state.done = False
            if self.drafter is not None:
                self.drafter.rewind(row, length)

    def force(self, row: int, tokens: Sequence[int]) -> None:
        """Append tokens that somebody else chose; the last of them is pending. The row's limit stays what it is."""
        state = self._usable(row)
        if not tokens:
            return
        vocab, context = self.target.info.vocab_size, self.target.info.context_length
        wrong = next((token for token in tokens if not 0 <= token < vocab), None)
        if wrong is not None:
            raise UsageError(f"Token {wrong} cannot be forced; the vocabulary has 0 … {vocab - 1}.")
        if len(state.tokens) + len(tokens) > context:
            raise ContextLengthError(
                f"Row {row} has {len(state.tokens)} tokens; {len(tokens)} more do not fit the context of {context}."
            )
        fed = [state.tokens[-1], *tokens[:-1]]
        try:
            prefill_pass(self.target, {row: fed}, (), logits=False)
        except BaseException:
            self.target.truncate(row, len(state.tokens) - 1)
            raise
        state.tokens.extend(tokens)
        state.done = len(state.tokens) >= state.limit
        if self.drafter is not None:
            with self._breaking(row):
                self.drafter.commit([Commit(row, tuple(tokens), (), len(state.tokens), reason="forced")])

    def _state(self, *rows: int) -> None:
        unknown = [row for row in rows if row not in self.rows]
        if unknown:
            raise UsageError(f"Row {unknown[0]} is not open.")

    def _usable(self, row: int) -> RowState:
        self._state(row)
        if row in self._broken:
            raise UsageError(
                f"Row {row} was left half-way by an error.", remedy="Close it and open it again with its text."
            )
        return self.rows[row]

    @contextmanager
    def _breaking(self, *rows: int) -> Iterator[None]:
        """Target, text and drafter change one after the other here: an error in between leaves rows half-way."""
        try:
            yield
        except BaseException:
            self._broken |= set(rows)
            raise

    # Passes

    def _prefill(self, states: Mapping[int, RowState]) -> list[RowOutcome]:
        rows = tuple(states)
        logits, hidden = prefill_pass(self.target, {row: state.tokens for row, state in states.items()}, self._tapped)
        decisions = self._decide(states, rows, logits, tuple(range(len(rows) + 1)), empty_draft(len(rows)))
        outcomes = []
        for index, (row, decision) in enumerate(zip(rows, decisions, strict=True)):
            state = states[row]
            state.tokens.append(decision.token)
            state.done = decision.token in state.stop_ids or len(state.tokens) >= state.limit
            self.rows[row] = state
            if self.drafter is not None:
                states_of = {layer: hidden[row][tap] for layer, tap in self._taps.items()}
                given = logits[index : index + 1] if "logits" in self.drafter.spec.needs else None
                self.drafter.start(
                    Commit(row, tuple(state.tokens), (), len(state.tokens), states_of, given, reason="prefill")
                )
            reported = logprobs_of(logits[index : index + 1], (decision.token,), state.logprobs)
            outcomes.append(RowOutcome(row, (decision.token,), state.done, None, reported))
        return outcomes

    def round(self, rows: Sequence[int]) -> list[RowOutcome]:
        """One pass of the target over the pending tokens of `rows` and whatever is drafted after them."""
        rows = tuple(rows)
        states = {row: self._usable(row) for row in rows}
        done = next((row for row, state in states.items() if state.done), None)
        if done is not None:
            raise UsageError(
                f"Row {done} is done: it emitted a stop token or reached its limit.", remedy="Rewind it, or close it."
            )
        if not rows:
            return []
        started = time.perf_counter()
        draft = self._draft(rows)
        drafted_at = time.perf_counter()
        try:
            result = self._verify_pass(rows, draft)
        except OutOfMemoryError:
            if draft.law != "match" or not int(draft.n_nodes.sum()):
                raise  # tokens that were drawn must be submitted, or the output is biased
            draft = empty_draft(len(rows))  # a plain step needs less
            result = self._verify_pass(rows, draft)
        assert result.logits is not None
        decisions = self._decide(states, rows, result.logits, result.logit_bounds, draft)
        share = 1000.0 / len(rows)
        costs = ((drafted_at - started) * share, (time.perf_counter() - drafted_at) * share)
        outcomes, events = [], []
        with self._breaking(*rows):
            for index, (row, decision) in enumerate(zip(rows, decisions, strict=True)):
                outcome, event = self._commit(index, row, decision, draft, result, costs)
                outcomes.append(outcome)
                events.append(event)
            if self.drafter is not None:
                self.drafter.commit(events)
                self.policy.observe([outcome.record for outcome in outcomes if outcome.record is not None])
        return outcomes

    def _draft(self, rows: tuple[int, ...]) -> Draft:
        if self.drafter is None:
            return empty_draft(len(rows))
        context = self.target.info.context_length
        states = [self.rows[row] for row in rows]
        budgets = tuple(
            max(0, min(budget, state.limit - len(state.tokens) - 1, context - len(state.tokens)))
            for state, budget in zip(states, self.policy.budgets(rows), strict=True)
        )
        if not any(budgets):
            return empty_draft(len(rows))
        request = DraftRequest(
            rows=rows,
            budget=budgets,
            sampling=tuple(state.sampling for state in states),
            rng=tuple(state.rng.of_round(len(state.tokens)) for state in states),
            go_on=self.policy.go_on,
        )
        try:
            draft = self.drafter.propose(request)
        except MemoryError as error:
            if self.drafter.spec.law == "match":
                return empty_draft(len(rows))  # a plain step needs less
            raise OutOfMemoryError(f"The drafter {self.drafter.spec.name!r} ran out of memory.") from error
        check_draft(draft, request, self.target.info.vocab_size, self.drafter.spec.name)
        return self.policy.cut(rows, draft) if draft.law == "match" and draft.resume is None else draft

    def _verify_pass(self, rows: tuple[int, ...], draft: Draft) -> Pass:
        return verify_pass(self.target, {row: self.rows[row].tokens[-1] for row in rows}, draft, self._tapped)

    def _decide(
        self,
        states: Mapping[int, RowState],
        rows: tuple[int, ...],
        logits: Tensor,
        bounds: tuple[int, ...],
        draft: Draft,
    ) -> Sequence[Decision]:
        each = [states[row] for row in rows]
        logits = penalised(logits, bounds, draft, [state.tokens for state in each], [state.sampling for state in each])
        return self.rule.decide(
            Verification(
                logits=logits,
                bounds=bounds,
                draft=draft,
                sampling=tuple(state.sampling for state in each),
                rng=tuple(state.rng for state in each),
                positions=tuple(len(state.tokens) for state in each),
            )
        )

    def _commit(
        self, index: int, row: int, decision: Decision, draft: Draft, result: Pass, costs: tuple[float, float]
    ) -> tuple[RowOutcome, Commit]:
        """Commit what a decision came to, and say what there is to tell of it."""
        state = self.rows[row]
        name = "none" if self.drafter is None else self.drafter.spec.name
        settled = settle(row, state, index, draft, decision, self.rule, name, costs)
        slots = [0, *(node + 1 for node in settled.path)]
        self.target.commit(row, slots)
        state.tokens.extend(settled.tokens)
        state.done = settled.done
        state.rounds += 1
        where = torch.tensor(slots)
        assert result.logits is not None
        logits = result.logits[result.logit_bounds[index] + where] if self._wants_logits(state) else None
        hidden = {}
        if self.drafter is not None:
            hidden = {
                layer: result.hidden[tap][result.bounds[index] + where]
                for layer, tap in self._taps.items()
                if tap in result.hidden  # a resumed pass does not go through the layers below
            }
        reported = () if logits is None else logprobs_of(logits, settled.tokens, state.logprobs)
        event = Commit(row, settled.tokens, settled.path, len(state.tokens), hidden, logits)
        return RowOutcome(row, settled.tokens, settled.done, settled.record, reported), event

    def _wants_logits(self, state: RowState) -> bool:
        return state.logprobs is not None or (self.drafter is not None and "logits" in self.drafter.spec.needs)
