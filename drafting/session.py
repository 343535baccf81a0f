"""Rows being decoded, one draft-then-verify round at a time.

A session joins target, drafter, rule and policy, and owns what each row has committed. `SpeculativeDecoder` builds
whole generations on it; pipelines use it directly, because they stop between rounds, put tokens of another model in
(`force`) and take whole steps back (`rewind`).

Between rounds a row's cache holds every committed token but the last, the pending token, which opens the next pass.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from draftproof.drafting.checks import check_draft, depth_of
from draftproof.drafting.draft import Draft, empty_draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel, LayeredModel, Pass, RowTokens, Wanted
from draftproof.drafting.penalties import penalised
from draftproof.drafting.policy import Policy
from draftproof.drafting.rounds import RowRound
from draftproof.drafting.rows import RowOutcome, RowState, logprobs_of
from draftproof.drafting.rule import Decision, Rule, Verification
from draftproof.drafting.rules.applied import applied
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import ContextLengthError, OutOfMemoryError, UsageError

PREFILL_CHUNK = 512
"""Prompt tokens a pass: bounds the memory that attention needs."""


@dataclass
class Session:
    """Draft-then-verify over rows with stable ids. Not safe to share between threads."""

    target: CachedModel
    drafter: Drafter | None
    rule: Rule
    policy: Policy
    vocabulary: Vocabulary | None = None
    rows: dict[int, RowState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.drafter is None:
            return
        spec = self.drafter.spec
        if spec.law not in self.rule.spec.laws:
            raise UsageError(
                f"The rule {self.rule.spec.name!r} cannot verify drafts of the law {spec.law!r}, which the drafter "
                f"{spec.name!r} makes.",
                remedy="Use rule='auto', which picks one for the drafter.",
            )
        layered = isinstance(self.target, LayeredModel) and self.target.supports_layers
        if "layers" in spec.needs and not layered:
            raise UsageError(
                f"The drafter {spec.name!r} runs layers of the target, which {self.target.info.architecture} on the "
                f"backend {self.target.info.backend!r} does not offer."
            )
        if "text" in spec.needs and self.vocabulary is None:
            raise UsageError(
                f"The drafter {spec.name!r} needs the target's tokenizer, and the target was loaded without one."
            )
        layers = self.target.info.n_layers
        self._taps = {layer: layer if layer >= 0 else layers + 1 + layer for layer in spec.hidden_layers}
        self.drafter.bind(Binding(self.target, self.vocabulary if "text" in spec.needs else None))

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
        context, vocab = self.target.info.context_length, self.target.info.vocab_size
        states: dict[int, RowState] = {}
        for row, prompt in prompts.items():
            if row in self.rows:
                raise UsageError(f"Row {row} is open already.")
            if not len(prompt):
                raise UsageError(
                    f"The prompt of row {row} is empty.",
                    remedy="Begin with at least one token, such as the model's BOS.",
                )
            wrong = next((token for token in prompt if not 0 <= token < vocab), None)
            if wrong is not None:
                raise UsageError(f"The prompt of row {row} holds token {wrong}; the vocabulary has 0 … {vocab - 1}.")
            if len(prompt) >= context:
                raise ContextLengthError(
                    f"The prompt of row {row} has {len(prompt)} tokens, and the context of {self.target.info.name} "
                    f"holds {context}.",
                    remedy="Shorten the prompt.",
                )
            room = context - len(prompt)
            limit = len(prompt) + (room if max_new_tokens is None else min(room, max_new_tokens))
            stops = self.target.info.eos_ids if stop_ids is None else stop_ids
            states[row] = RowState(sampling, KeyedRng(sampling.seed), list(prompt), len(prompt), stops, limit, logprobs)
        for row in states:
            self.target.add_row(row)
        try:
            return self._prefill(states)
        except BaseException:
            for row in states:
                self.target.drop_row(row)
                self.rows.pop(row, None)
            raise

    def close(self, rows: Sequence[int]) -> None:
        """Forget rows; their memory serves others."""
        for row in rows:
            self.target.drop_row(row)
            del self.rows[row]
        if self.drafter is not None:
            self.drafter.stop(rows)
        self.policy.forget(rows)

    def rewind(self, row: int, length: int) -> None:
        """Take back every token from `length` on. The prompt stays."""
        state = self.rows[row]
        if not state.prompt_length < length <= len(state.tokens):
            raise UsageError(
                f"Row {row} has {len(state.tokens)} tokens, {state.prompt_length} of them the prompt: it cannot be "
                f"rewound to {length}.",
                remedy="At least one token after the prompt stays.",
            )
        if length == len(state.tokens):
            return
        self.target.truncate(row, length - 1)
        del state.tokens[length:]
        state.done = False
        if self.drafter is not None:
            self.drafter.rewind(row, length)

    def force(self, row: int, tokens: Sequence[int]) -> None:
        """Append tokens that somebody else chose; the last of them is pending."""
        state = self.rows[row]
        if not tokens:
            return
        if len(state.tokens) + len(tokens) > self.target.info.context_length:
            raise ContextLengthError(
                f"Row {row} has {len(state.tokens)} tokens; {len(tokens)} more do not fit the context of "
                f"{self.target.info.context_length}."
            )
        fed = [state.tokens[-1], *tokens[:-1]]
        for begin in range(0, len(fed), PREFILL_CHUNK):
            piece = torch.tensor(fed[begin : begin + PREFILL_CHUNK], dtype=torch.int64)
            self.target.forward([RowTokens(row, piece)], Wanted(logits="none"))
            self.target.commit(row, range(len(piece)))
        state.tokens.extend(tokens)
        if self.drafter is not None:
            self.drafter.commit([Commit(row, tuple(tokens), (), len(state.tokens), reason="forced")])

    # Passes

    def _prefill(self, states: Mapping[int, RowState]) -> list[RowOutcome]:
        taps = tuple(dict.fromkeys(self._taps.values())) if self.drafter is not None else ()
        hidden: dict[int, dict[int, list[Tensor]]] = {row: {tap: [] for tap in taps} for row in states}
        last: dict[int, Tensor] = {}
        longest = max(state.prompt_length for state in states.values())
        for begin in range(0, longest, PREFILL_CHUNK):
            batch = [
                RowTokens(row, torch.tensor(state.tokens[begin : begin + PREFILL_CHUNK], dtype=torch.int64))
                for row, state in states.items()
                if state.prompt_length > begin
            ]
            ends = any(states[each.row].prompt_length <= begin + PREFILL_CHUNK for each in batch)
            result = self.target.forward(batch, Wanted(logits="last" if ends else "none", taps=taps))
            for index, each in enumerate(batch):
                self.target.commit(each.row, range(len(each.tokens)))
                if result.logits is not None:
                    last[each.row] = result.logits[result.logit_bounds[index] : result.logit_bounds[index + 1]]
                for tap in taps:
                    hidden[each.row][tap].append(result.hidden[tap][result.bounds[index] : result.bounds[index + 1]])
        rows = tuple(states)
        logits = torch.cat([last[row] for row in rows])
        draft = empty_draft(len(rows))
        decisions = self._decide(states, rows, logits, tuple(range(len(rows) + 1)), draft)
        outcomes = []
        for index, (row, decision) in enumerate(zip(rows, decisions, strict=True)):
            state = states[row]
            state.tokens.append(decision.token)
            state.done = decision.token in state.stop_ids or len(state.tokens) >= state.limit
            self.rows[row] = state
            if self.drafter is not None:
                states_of = {layer: torch.cat(hidden[row][tap]) for layer, tap in self._taps.items()}
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
        states = {row: self.rows[row] for row in rows}
        started = time.perf_counter()
        draft = self._draft(rows)
        drafted_at = time.perf_counter()
        try:
            result = self._verify_pass(rows, draft)
        except OutOfMemoryError:
            if not int(draft.n_nodes.sum()):
                raise
            draft = empty_draft(len(rows))  # a plain step needs less
            result = self._verify_pass(rows, draft)
        assert result.logits is not None
        decisions = self._decide(states, rows, result.logits, result.logit_bounds, draft)
        share = 1000.0 / len(rows)
        costs = ((drafted_at - started) * share, (time.perf_counter() - drafted_at) * share)
        outcomes, events = [], []
        for index, (row, decision) in enumerate(zip(rows, decisions, strict=True)):
            outcome, event = self._settle(index, row, decision, draft, result, costs)
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
        budgets = tuple(
            max(
                0,
                min(
                    budget, self.rows[row].limit - len(self.rows[row].tokens) - 1, context - len(self.rows[row].tokens)
                ),
            )
            for row, budget in zip(rows, self.policy.budgets(rows), strict=True)
        )
        if not any(budgets):
            return empty_draft(len(rows))
        states = [self.rows[row] for row in rows]
        request = DraftRequest(
            rows=rows,
            budget=budgets,
            sampling=tuple(state.sampling for state in states),
            rng=tuple(state.rng.of_round(len(state.tokens)) for state in states),
            go_on=self.policy.go_on,
        )
        draft = self.drafter.propose(request)
        check_draft(draft, request, self.target.info.vocab_size, self.drafter.spec.name)
        return self.policy.cut(rows, draft) if draft.law == "match" and draft.resume is None else draft

    def _verify_pass(self, rows: tuple[int, ...], draft: Draft) -> Pass:
        batch = []
        for index, row in enumerate(rows):
            tokens, parents = draft.tree(index)
            fed = torch.tensor([self.rows[row].tokens[-1], *tokens], dtype=torch.int64)
            is_chain = all(parent == node - 1 for node, parent in enumerate(parents))
            above = None if is_chain else torch.tensor([-1, *(parent + 1 for parent in parents)], dtype=torch.int64)
            batch.append(RowTokens(row, fed, above))
        taps = tuple(dict.fromkeys(self._taps.values())) if self.drafter is not None else ()
        if draft.resume is None or not int(draft.n_nodes.sum()):
            return self.target.forward(batch, Wanted(taps=taps))
        return self._resumed_pass(batch, draft, taps)

    def _resumed_pass(self, batch: list[RowTokens], draft: Draft, taps: tuple[int, ...]) -> Pass:
        """Layers above the drafter's exit only: those below have run on these slots while drafting."""
        assert draft.resume is not None
        assert isinstance(self.target, LayeredModel)
        top = self.target.info.n_layers
        known = torch.cat([draft.resume.hidden[i, : len(each.tokens)] for i, each in enumerate(batch)])
        upper = tuple(tap for tap in taps if tap > draft.resume.layer)
        result = self.target.run_layers(batch, draft.resume.layer, top, known, upper)
        hidden = {tap: result.hidden[tap] for tap in upper}
        if draft.resume.layer in taps:
            hidden[draft.resume.layer] = known
        return Pass(self.target.head(result.hidden[top]), result.bounds, hidden, result.bounds)

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

    def _settle(
        self, index: int, row: int, decision: Decision, draft: Draft, result: Pass, costs: tuple[float, float]
    ) -> tuple[RowOutcome, Commit]:
        """Commit what the rule let through, cut at the first stop token and at the row's limit."""
        state = self.rows[row]
        tokens, parents = draft.tree(index)
        emitted = [*(tokens[node] for node in decision.path), decision.token]
        stop = next((i for i, token in enumerate(emitted) if token in state.stop_ids), len(emitted) - 1)
        emitted = emitted[: min(stop + 1, state.limit - len(state.tokens))]
        path = decision.path[: len(emitted) - 1]
        position = len(state.tokens)
        slots = [0, *(node + 1 for node in path)]
        self.target.commit(row, slots)
        state.tokens.extend(emitted)
        state.done = emitted[-1] in state.stop_ids or len(state.tokens) >= state.limit
        record = self._record(index, row, position, decision, draft, parents, len(emitted), costs)
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
        reported = () if logits is None else logprobs_of(logits, tuple(emitted), state.logprobs)
        event = Commit(row, tuple(emitted), tuple(path), len(state.tokens), hidden, logits)
        return RowOutcome(row, tuple(emitted), state.done, record, reported), event

    def _wants_logits(self, state: RowState) -> bool:
        return state.logprobs is not None or (self.drafter is not None and "logits" in self.drafter.spec.needs)

    def _record(
        self,
        index: int,
        row: int,
        position: int,
        decision: Decision,
        draft: Draft,
        parents: list[int],
        emitted: int,
        costs: tuple[float, float],
    ) -> RowRound:
        name = self.drafter.spec.name if self.drafter is not None and parents else "none"
        score = None
        if draft.score is not None and parents:
            score = float(draft.score[index, : len(parents)].sum())
        rule, lossless = applied(self.rule, draft.law, self.rows[row].sampling)
        return RowRound(
            row=row,
            index=self.rows[row].rounds,
            position=position,
            drafter=draft.source[index] if draft.source and parents else name,
            law=draft.law,
            rule=rule,
            lossless=lossless,
            drafted=len(parents),
            depth=depth_of(parents),
            accepted=len(decision.path),
            emitted=emitted,
            score=score,
            draft_ms=costs[0],
            verify_ms=costs[1],
        )
