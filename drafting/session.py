"""Rows being decoded, one draft-then-verify round at a time.

A session joins target, drafter, rule and policy, and owns what each row has committed. `SpeculativeDecoder` builds
whole generations on it; pipelines use it directly, because they stop between rounds, put tokens of another model in
(`force`) and take whole steps back (`rewind`).

Between rounds a row's cache holds every committed token but the last, the pending token, which opens the next pass.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from draftproof.drafting.checks import check_draft, check_parts
from draftproof.drafting.draft import Draft, empty_draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel, Pass
from draftproof.drafting.pass_costs import PassCosts, measure_pass_costs
from draftproof.drafting.passes import prefill_pass, verify_pass
from draftproof.drafting.penalties import penalised
from draftproof.drafting.policy import Policy
from draftproof.drafting.rows import (
    Basis,
    Opening,
    Reading,
    ReadOutcome,
    RowOutcome,
    RowState,
    common_length,
    given_state,
    logprobs_of,
    opened_state,
    tap_of,
)
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
        taken = next((row for row in prompts if row in self.rows), None)
        if taken is not None:
            raise UsageError(f"Row {taken} is open already.")
        return self.begin(
            {row: Opening(prompt, sampling, max_new_tokens, stop_ids, logprobs) for row, prompt in prompts.items()}
        )

    def begin(self, openings: Mapping[int, Opening]) -> list[RowOutcome]:
        """The same, each row in its own way, and open ones anew: what such a row's cache holds of its prompt is not
        read again, and all else that it held is forgotten.

        Raises as `open` does, before anything is changed; after other errors none of the rows is open.
        """
        states = {row: opened_state(opening, self.target.info) for row, opening in openings.items()}
        if any(state.hidden_layers for state in states.values()):
            self._check_whole_passes()
        return self._prefill(states) if self._claimed(states) else []

    def read(self, readings: Mapping[int, Reading]) -> list[ReadOutcome]:
        """Make rows hold given texts, open ones anew as in `begin`, and tell what these would have been predicted
        from; `target.head` makes logits of the last layer's states. The rows are done: they can `begin` anew.

        Raises as `begin` does.
        """
        states = {row: given_state(reading, self.target.info) for row, reading in readings.items()}
        return self._reread(states, readings) if self._claimed(states) else []

    def _check_whole_passes(self) -> None:
        if self.drafter is not None and "layers" in self.drafter.spec.needs:
            raise UsageError(
                f"Hidden states are asked for, and the drafter {self.drafter.spec.name!r} makes passes skip layers.",
                remedy="Use another drafter, or none.",
            )

    def _claimed(self, states: Mapping[int, RowState]) -> bool:
        """Room in the target for each row that has none; whether there are rows at all."""
        for row in states:
            if row in self.rows:
                self._usable(row)
        added: list[int] = []
        try:
            for row in states:
                if row not in self.rows:
                    self.target.add_row(row)
                    added.append(row)
        except BaseException:
            for row in added:
                self.target.drop_row(row)
            raise
        return bool(states)

    def _abandon(self, rows: Iterable[int], error: BaseException) -> None:
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
        try:
            return self._prefilled(states)
        except BaseException as error:
            self._abandon(states, error)
            raise

    def _prefilled(self, states: Mapping[int, RowState]) -> list[RowOutcome]:
        rows = tuple(states)
        kept = {row: self._keep(row, state) for row, state in states.items()}
        fed = {row: state.tokens[kept[row] :] for row, state in states.items() if kept[row] < len(state.tokens)}
        logits, hidden = (
            prefill_pass(self.target, fed, self._taps_for(states.values())) if fed else (torch.empty(0), {})
        )
        bases = {row: state.after_prompt for row, state in states.items() if state.after_prompt is not None}
        for index, row in enumerate(fed):
            ends = {layer: hidden[row][self._tap(layer)][-1:] for layer in states[row].hidden_layers}
            bases[row] = Basis(logits[index : index + 1], ends)
        if len(fed) < len(rows):
            logits = torch.cat([bases[row].logits for row in rows])
        decisions = self._decide(states, rows, logits, tuple(range(len(rows) + 1)), empty_draft(len(rows)))
        outcomes = []
        for row, decision in zip(rows, decisions, strict=True):
            state, basis = states[row], bases[row]
            state.after_prompt = basis.copied() if state.basis else None
            state.tokens.append(decision.token)
            state.done = decision.token in state.stop_ids or len(state.tokens) >= state.limit
            self._take_up(row, state, kept[row], hidden.get(row, {}), basis.logits)
            reported = logprobs_of(basis.logits, (decision.token,), state.logprobs)
            shown = basis if state.basis else None
            outcomes.append(RowOutcome(row, (decision.token,), state.done, None, reported, shown, kept[row]))
        return outcomes

    def _reread(self, states: Mapping[int, RowState], readings: Mapping[int, Reading]) -> list[ReadOutcome]:
        try:
            kept = {row: self._keep(row, state, readings[row].begin - 1) for row, state in states.items()}
            fed = {row: state.tokens[kept[row] : -1] for row, state in states.items()}
            wanted = {row: {layer: self._tap(layer) for layer in readings[row].layers} for row in states}
            taps = dict.fromkeys((*self._tapped, *(tap for layers in wanted.values() for tap in layers.values())))
            if self.drafter is not None and "logits" in self.drafter.spec.needs:
                taps[self.target.info.n_layers] = None
            _, hidden = prefill_pass(self.target, fed, tuple(taps), logits=False)
            for row, state in states.items():
                last = hidden[row].get(self.target.info.n_layers)
                logits = None if last is None else self.target.head(last[-1:])
                self._take_up(row, state, kept[row], hidden[row], logits)
        except BaseException as error:
            self._abandon(states, error)
            raise
        outcomes = []
        for row, layers in wanted.items():
            first = readings[row].begin - 1 - kept[row]
            found = {layer: hidden[row][tap][first:] for layer, tap in layers.items()}
            outcomes.append(ReadOutcome(row, found, kept[row]))
        return outcomes

    def _keep(self, row: int, state: RowState, most: int | None = None) -> int:
        """Cut an open row's cache to what it holds of a new text, `most` tokens at most; how many tokens that is.

        They are all where the row began behind this very text before, and what it began with is known."""
        old = self.rows.get(row)
        if old is None:
            return 0
        size, common = len(state.tokens), common_length(old.tokens, state.tokens)
        known = old.after_prompt
        behind = most is None and common == size == old.prompt_length
        if behind and known is not None and set(state.hidden_layers) <= set(known.hidden):
            state.after_prompt = known
            self.target.truncate(row, size)
            return size
        kept = min(common, size - 1 if most is None else most, self.target.length(row))
        self.target.truncate(row, kept)
        return kept

    def _take_up(
        self, row: int, state: RowState, kept: int, hidden: Mapping[int, Tensor], logits: Tensor | None
    ) -> None:
        """Make `state` that of the row, and tell the drafter: the states [n, H] of the layers that it asks for, and the
        last logits, are of the tokens behind the first `kept`."""
        old = self.rows.get(row)
        self.rows[row] = state
        if self.drafter is None:
            return
        tokens = tuple(state.tokens)
        if old is not None and kept:
            common = common_length(old.tokens, state.tokens)
            self.drafter.rewind(row, common)
            if common < len(tokens):
                self.drafter.commit([Commit(row, tokens[common:], (), len(tokens), reason="forced")])
            return
        if old is not None:
            self.drafter.stop([row])
        states = {layer: hidden[tap] for layer, tap in self._taps.items()}
        given = logits if "logits" in self.drafter.spec.needs else None
        self.drafter.start(Commit(row, tokens, (), len(tokens), states, given, reason="prefill"))

    def _tap(self, layer: int) -> int:
        return tap_of(layer, self.target.info)

    def _taps_for(self, states: Iterable[RowState]) -> tuple[int, ...]:
        wanted = {self._tap(layer) for state in states for layer in state.hidden_layers}
        return tuple(dict.fromkeys((*self._tapped, *sorted(wanted)))) if wanted else self._tapped

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
        taps = self._taps_for(self.rows[row] for row in rows)
        return verify_pass(self.target, {row: self.rows[row].tokens[-1] for row in rows}, draft, taps)

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
        assert result.logits is not None
        logits, hidden = None, {}
        if self._wants_logits(state):
            logits = result.logits[result.logit_bounds[index] + torch.tensor(slots)]
        if self.drafter is not None:
            where = torch.tensor(slots)
            hidden = {
                layer: result.hidden[tap][result.bounds[index] + where]
                for layer, tap in self._taps.items()
                if tap in result.hidden  # a resumed pass does not go through the layers below
            }
        reported = () if logits is None else logprobs_of(logits, settled.tokens, state.logprobs)
        event = Commit(row, settled.tokens, settled.path, len(state.tokens), hidden, logits)
        basis = self._basis(state, index, slots, result) if state.basis else None
        return RowOutcome(row, settled.tokens, settled.done, settled.record, reported, basis), event

    def _basis(self, state: RowState, index: int, slots: list[int], result: Pass) -> Basis:
        assert result.logits is not None
        chain = slots[-1] == len(slots) - 1  # then a slice will do
        where = slice(0, len(slots)) if chain else torch.tensor(slots)
        logits = result.logits[result.logit_bounds[index] : result.logit_bounds[index + 1]][where]
        first, last = result.bounds[index], result.bounds[index + 1]
        return Basis(
            logits, {layer: result.hidden[self._tap(layer)][first:last][where] for layer in state.hidden_layers}
        )

    def _wants_logits(self, state: RowState) -> bool:
        return state.logprobs is not None or (self.drafter is not None and "logits" in self.drafter.spec.needs)
