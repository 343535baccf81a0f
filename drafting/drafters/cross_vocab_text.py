"""A draft model of any vocabulary: its text is what is drafted, written anew in the target's tokens.

String-level exact match (SLEM; Timor et al., arXiv 2502.05202, algorithm 2): the draft model decodes greedily in its
own tokens, and the target verifies the same bytes in its tokens by the law `match`, which is exact for any proposal.
Both sides are aligned by byte offsets (`text_align`): after a round, the committed bytes are encoded from the last word
on that the draft model had read, because tokenizers merge within words, and its cache is kept as far as the tokens are
the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from draftproof.drafting.draft import Draft, chain, empty_draft, pack
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.drafters.chain_draws import ChainDraws
from draftproof.drafting.drafters.draft_cache import DraftCache
from draftproof.drafting.drafters.text_align import Tokenization, common_length, complete, word_begin
from draftproof.drafting.drafters.vocab_map import controls_between, known, sides
from draftproof.drafting.model import CachedModel, Wanted
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError

LOOK_BACK = 8
"""Most draft tokens at the end of a text that are encoded anew: longer words keep their first cut."""


@dataclass
class _Row:
    """A committed text on both sides."""

    ends: list[int] = field(default_factory=list)
    """Atoms of the text after each committed target token."""
    stream: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    """Draft tokens of the text, but for a character at its end that lacks bytes."""
    draft_ends: list[int] = field(default_factory=list)


class StringMatch:
    """Chains of target tokens that spell what `model` would go on with.

    Args:
        model: the draft model.
        vocabulary: its tokens; None, which a model without a tokenizer has, is refused.
        controls: control tokens, target id -> draft id; None pairs those that are written alike, and the ends of text.
        begin: draft tokens before every text, such as a BOS that the target does not have.
        max_depth: most target tokens, and most draft tokens but one.
    """

    def __init__(
        self,
        model: CachedModel,
        vocabulary: Vocabulary | None,
        *,
        controls: Mapping[int, int] | None = None,
        begin: Sequence[int] = (),
        max_depth: int = 16,
        name: str = "string-match",
    ) -> None:
        if max_depth < 1:
            raise UsageError(f"max_depth is {max_depth}, it must be at least 1.")
        self.model = model
        self._vocabulary = known(vocabulary, model)
        self._controls = controls
        self._begin = list(begin)
        self._cache = DraftCache(model)
        self._rows: dict[int, _Row] = {}
        self._spec = DrafterSpec(
            name=name,
            needs=frozenset({"text"}),
            max_nodes=max_depth,
            max_depth=max_depth,
            law="match",
            stepwise=True,
            draft_model=model.info.digest,
        )

    @property
    def spec(self) -> DrafterSpec:
        return self._spec

    @property
    def fingerprint(self) -> dict[str, str]:
        """What drafted, for records."""
        return {"draft_model": self.model.info.digest}

    def bind(self, binding: Binding) -> None:
        target, controls = controls_between(self.model, self._vocabulary, self._controls, binding)
        self._own: Tokenization
        self._target: Tokenization
        self._own, self._target = sides(self._vocabulary, target, controls)

    def start(self, event: Commit) -> None:
        row = self._rows[event.row] = _Row()
        self._cache.add(event.row)
        self._append(row, event.tokens)
        self._align(event.row, row)

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            row = self._rows[event.row]
            self._append(row, event.tokens)
            self._align(event.row, row)

    def rewind(self, row: int, length: int) -> None:
        state = self._rows[row]
        del state.ends[length:]
        del state.stream[state.ends[-1] if state.ends else 0 :]
        state.draft, state.draft_ends = [], []  # cut as a text that is read for the first time
        self._align(row, state)

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._cache.drop(row)
            self._rows.pop(row, None)

    def propose(self, request: DraftRequest) -> Draft:
        states = [self._rows[row] for row in request.rows]
        texts = [[*self._begin, *state.draft] for state in states]
        # One draft token more than target tokens: the last one often only shows where the word before it ends.
        steps = tuple(budget + 1 if budget else 0 for budget in request.budget)
        limits = [min(self._spec.max_depth + 1, self._cache.room(text)) if text else 0 for text in texts]
        draws = ChainDraws(replace(request, budget=steps), texts, "match", limits=limits)
        going = draws.beginning()
        if not going:
            return empty_draft(len(request.rows))
        wanted = Wanted(logits="last")
        result = self._cache.catch_up({request.rows[index]: texts[index] for index in going}, wanted)
        while True:
            assert result.logits is not None
            going = [
                index
                for index in draws.draw(going, result.logits)
                if not self._ended(states[index], draws.tokens[index], min(request.budget[index], self._spec.max_nodes))
            ]
            if not going:
                break
            fed = {}
            for index in going:
                row = request.rows[index]
                fed[row] = [(draws.tokens[index][-1], self._cache.newest(row))]
            result = self._cache.extend(fed, wanted)
        trees, scores = [], []
        for index, state in enumerate(states):
            most = min(request.budget[index], self._spec.max_nodes)
            tokens, sources = self._spelled(state, draws.tokens[index])
            trees.append(chain(tokens[:most]))
            scores.append([draws.scores[index][source] for source in sources[:most]])
        return pack(trees, scores)

    def _ended(self, state: _Row, drafted: Sequence[int], budget: int) -> bool:
        """Whether another draft token would add nothing."""
        if self._own.is_control(drafted[-1]):
            return True
        held = state.stream[complete(state.stream) :]
        atoms = self._atoms(drafted)
        return (
            common_length(atoms, held) < min(len(atoms), len(held)) or len(self._spelled(state, drafted)[0]) >= budget
        )

    def _atoms(self, drafted: Sequence[int]) -> list[int]:
        """What draft tokens spell, up to a control token that the target does not know."""
        atoms: list[int] = []
        for token in drafted:
            more = self._own.atoms(token)
            if more is None:
                break
            atoms += more
        return atoms

    def _spelled(self, state: _Row, drafted: Sequence[int]) -> tuple[list[int], list[int]]:
        """Target tokens that spell what was drafted, and for each the draft token that it ends in.

        The last one is left out where the target's tokenizer might write more into it: unless the draft model ends
        the text there, or both sides end with the very same token.
        """
        atoms = self._atoms(drafted)
        held = state.stream[complete(state.stream) :]
        if not atoms or common_length(atoms, held) < len(held):
            return [], []
        fresh = atoms[len(held) :]
        whole = complete(fresh)
        written = self._target.encode(fresh[:whole])
        ids: list[int] = []
        ends: list[int] = []
        for token, end in zip(written.ids, written.ends, strict=True):
            before = ends[-1] if ends else 0
            if end - len(self._target.atoms(token) or ()) != before:
                break  # bytes that the target cannot write
            ids.append(token)
            ends.append(end)
        if len(ids) > 1 and ends[-1] == whole and not self._at_boundary(drafted, ids[-1], whole == len(fresh)):
            del ids[-1], ends[-1]
        return ids, self._sources(drafted, [len(held) + end for end in ends])

    def _at_boundary(self, drafted: Sequence[int], last: int, all_written: bool) -> bool:
        if self._own.is_control(drafted[-1]):
            return True
        return all_written and self._own.atoms(drafted[-1]) == self._target.atoms(last)

    def _sources(self, drafted: Sequence[int], ends: Sequence[int]) -> list[int]:
        sources: list[int] = []
        spelled, at = 0, -1
        for end in ends:
            while spelled < end:
                at += 1
                spelled += len(self._own.atoms(drafted[at]) or ())
            sources.append(at)
        return sources

    def _append(self, row: _Row, tokens: Sequence[int]) -> None:
        for token in tokens:
            row.stream += self._target.atoms(token) or ()
            row.ends.append(len(row.stream))

    def _align(self, row: int, state: _Row) -> None:
        """Bring the draft tokens in step with the committed stream, its last character held back if it lacks bytes.

        Drafted tokens that were accepted come back as themselves, cut anew, and `DraftCache` knows them again.
        """
        known = complete(state.stream)
        end = state.draft_ends[-1] if state.draft_ends else 0
        if end < known:
            tail = [self._own.atoms(token) or () for token in state.draft[-LOOK_BACK - 1 :]]
            kept = len(state.draft) - word_begin(tail, LOOK_BACK)
            begin = state.draft_ends[kept - 1] if kept else 0
            written = self._own.encode(state.stream[begin:known])
            state.draft[kept:] = written.ids
            state.draft_ends[kept:] = [begin + offset for offset in written.ends]
        self._cache.follow(row, [*self._begin, *state.draft])
