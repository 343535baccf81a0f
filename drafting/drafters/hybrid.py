"""Several drafters as one: their drafts fused into a tree, or in each round the one that promises most.

Each child keeps its own scores, and a track record corrects them: what it promised against what the target then said,
for tokens that were drafted by others too. Steps of model-based children are only asked for where the cheap ones
promise less than those usually bring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from draftproof.drafting.draft import Draft, Law, empty_draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DrafterSpec, DraftRequest, Need
from draftproof.drafting.drafters.merge import scores_of
from draftproof.drafting.drafters.one_law import choose_rows
from draftproof.drafting.drafters.token_tree import TokenTree, pack_trees
from draftproof.drafting.drafters.track_record import TrackRecord
from draftproof.errors import UsageError

TRIAL_ROUNDS = 8
"""Rounds after which it is known what a child usually brings."""

_NOT_ASKED = -1.0
"""Worth of a child's empty draft, below that of any other."""


@dataclass(frozen=True)
class _Promise:
    """What a child drafted for a row in this round, before any cut."""

    tokens: list[int]
    parents: list[int]
    scores: list[float]

    @property
    def expected(self) -> float:
        return sum(self.scores)

    def outcome(self, said: Sequence[int]) -> tuple[float, list[int]]:
        """How many of the tokens `said` were promised, and the nodes that spell them.

        What is promised for a token is the share of the path's score that went on to the children of its node: so it
        can be told for as far as the target spoke, whether the child's draft was verified, cut, or passed over.
        """
        children: dict[int, dict[int, int]] = {}
        for node, (token, parent) in enumerate(zip(self.tokens, self.parents, strict=True)):
            children.setdefault(parent, {})[token] = node
        path: list[int] = []
        promised, at, score = 0.0, -1, 1.0
        for token in said:
            below = children.get(at)
            if below is None or score <= 0.0:
                break
            promised += min(1.0, sum(self.scores[node] for node in below.values()) / score)
            if token not in below:
                break
            at = below[token]
            score = self.scores[at]
            path.append(at)
        return promised, path


class Hybrid:
    """Law: `match` when drafts are merged. In arbitration that of the children, where `match` drafts join any other
    (see `one_law.py`); children of two other laws cannot be arbitrated."""

    def __init__(
        self, drafters: Sequence[Drafter], *, mode: Literal["merge", "arbitrate"] = "merge", max_nodes: int = 32
    ) -> None:
        """`drafters`: the cheapest first. `max_nodes`: of a merged tree; in arbitration the children's own holds."""
        if len(drafters) < 2:
            raise UsageError(f"hybrid: {len(drafters)} drafters were given; at least two can be joined.")
        if mode not in ("merge", "arbitrate"):
            raise UsageError(f"hybrid: mode is {mode!r}; expected 'merge' or 'arbitrate'.")
        self.drafters = tuple(drafters)
        self._mode = mode
        self._names = _names(self.drafters)
        self._records = [TrackRecord() for _ in drafters]
        self._promises: dict[int, list[_Promise]] = {}
        """Of the newest round only: what `commit` judges the children by."""
        self._vocab_size = 0
        self._layered = sum("layers" in child.spec.needs for child in drafters)
        self._spec = self._joint_spec(max_nodes)

    def _joint_spec(self, max_nodes: int) -> DrafterSpec:
        specs = [child.spec for child in self.drafters]
        needs: frozenset[Need] = frozenset().union(*(spec.needs for spec in specs))
        laws: set[Law] = {spec.law for spec in specs} - {"match"}
        if self._mode == "arbitrate" and len(laws) > 1:
            raise UsageError(
                f"hybrid: drafters of the laws {', '.join(sorted(laws))} cannot be arbitrated: a round has one law.",
                remedy="Use mode='merge', or give the drafters one law.",
            )
        models = {spec.draft_model for spec in specs if spec.stepwise}
        exits = [spec.exits for spec in specs if spec.exits is not None]
        return DrafterSpec(
            name=f"hybrid({'+'.join(self._names)})",
            needs=needs,
            hidden_layers=tuple(dict.fromkeys(layer for spec in specs for layer in spec.hidden_layers)),
            max_nodes=max_nodes if self._mode == "merge" else max(spec.max_nodes for spec in specs),
            max_depth=max(spec.max_depth for spec in specs),
            law=next(iter(laws), "match") if self._mode == "arbitrate" else "match",
            draft_model=next(iter(models)) if len(models) == 1 else "",
            stepwise=any(spec.stepwise for spec in specs),
            exits=exits[0] if len(exits) == 1 else None,
        )

    @property
    def spec(self) -> DrafterSpec:
        return self._spec

    @property
    def fingerprint(self) -> dict[str, str]:
        """What drafted, for records: the children's, by their names."""
        return {
            f"{name}.{key}": value
            for name, child in zip(self._names, self.drafters, strict=True)
            for key, value in getattr(child, "fingerprint", {}).items()
        }

    def bind(self, binding: Binding) -> None:
        self._vocab_size = binding.model.info.vocab_size
        for child in self.drafters:
            child.bind(binding if "text" in child.spec.needs else replace(binding, vocabulary=None))

    def start(self, event: Commit) -> None:
        for child in self.drafters:
            child.start(event)

    def rewind(self, row: int, length: int) -> None:
        self._promises.pop(row, None)
        for child, record in zip(self.drafters, self._records, strict=True):
            child.rewind(row, length)
            record.forget(row)

    def stop(self, rows: Sequence[int]) -> None:
        for child, record in zip(self.drafters, self._records, strict=True):
            child.stop(rows)
            for row in rows:
                record.forget(row)
        for row in rows:
            self._promises.pop(row, None)

    def commit(self, events: Sequence[Commit]) -> None:
        """Each child is told which of its own nodes were accepted, whosever draft was verified."""
        told: list[list[Commit]] = [[] for _ in self.drafters]
        for event in events:
            promises = self._promises.pop(event.row, None)
            for index, record in enumerate(self._records):
                path: list[int] = []
                if promises is not None and promises[index].tokens and event.reason == "verify":
                    promised, path = promises[index].outcome(event.tokens)
                    record.note(event.row, promised, len(path))
                told[index].append(replace(event, path=tuple(path[: len(event.path)])))
        for child, mine in zip(self.drafters, told, strict=True):
            child.commit(mine)

    def propose(self, request: DraftRequest) -> Draft:
        drafts: list[Draft] = []
        promises: list[list[_Promise]] = [[] for _ in request.rows]
        worths: list[list[float]] = [[] for _ in request.rows]
        for child, record in zip(self.drafters, self._records, strict=True):
            asked = self._worth_asking(child, record, [max(each, default=0.0) for each in worths])
            draft = empty_draft(len(request.rows))
            if any(asked):
                budgets = tuple(budget if ask else 0 for budget, ask in zip(request.budget, asked, strict=True))
                draft = child.propose(replace(request, budget=budgets))
            drafts.append(draft)
            for index, (row, sampling) in enumerate(zip(request.rows, request.sampling, strict=True)):
                promise = _Promise(*draft.tree(index), scores_of(draft, index))
                promises[index].append(promise)
                drawn = not sampling.greedy and draft.law != "match"
                worths[index].append(self._worth(promise, record, row, drawn) if asked[index] else _NOT_ASKED)
        self._promises.update(zip(request.rows, promises, strict=True))
        if self._mode == "merge":
            return self._merged(request, promises)
        return self._chosen(request, drafts, worths)

    def _worth(self, promise: _Promise, record: TrackRecord, row: int, drawn: bool) -> float:
        """Tokens that a draft will bring, by what is known of it.

        A draft that was drawn is judged by earlier rounds alone. Were it judged by itself, even by its length, it
        would be dropped, or the next child not asked, because of what was drawn, and the output biased.
        """
        return record.mean_kept if drawn else promise.expected * record.factor(row)

    def _worth_asking(self, child: Drafter, record: TrackRecord, best: Sequence[float]) -> list[bool]:
        """For each row, whether the child usually brings more than cheaper children promise."""
        free = not child.spec.stepwise or record.rounds < TRIAL_ROUNDS
        return [free or expected < record.mean_kept for expected in best]

    def _merged(self, request: DraftRequest, promises: Sequence[Sequence[_Promise]]) -> Draft:
        trees = []
        for row, budget, mine in zip(request.rows, request.budget, promises, strict=True):
            union = TokenTree()
            for promise, record in zip(mine, self._records, strict=True):
                factor = record.factor(row)
                union.graft(promise.tokens, promise.parents, [min(1.0, score * factor) for score in promise.scores])
            trees.append(union.normalised().pruned(min(budget, self._spec.max_nodes)))
        return pack_trees(trees)

    def _chosen(self, request: DraftRequest, drafts: Sequence[Draft], worths: Sequence[list[float]]) -> Draft:
        drawn = [not sampling.greedy for sampling in request.sampling]
        chosen = [worth.index(max(worth)) for worth in worths]
        law = self._spec.law if any(drawn) else "match"
        made = choose_rows(drafts, chosen, law, drawn, self._vocab_size)
        one = drafts[chosen[0]]
        resume = one.resume if len(set(chosen)) == 1 and self._may_resume(chosen[0], one) else None
        return replace(made, source=tuple(self._names[index] for index in chosen), resume=resume)

    def _may_resume(self, chosen: int, draft: Draft) -> bool:
        """Layers below the exit hold this draft's entries, and no other child needs their states."""
        if draft.resume is None or self._layered > 1:
            return False
        others = (child.spec for index, child in enumerate(self.drafters) if index != chosen)
        return all(layer == -1 or layer >= draft.resume.layer for spec in others for layer in spec.hidden_layers)


def _names(drafters: Sequence[Drafter]) -> list[str]:
    """Names of the children, told apart by a number where two are of one kind."""
    names: list[str] = []
    for child in drafters:
        same = sum(other.spec.name == child.spec.name for other in drafters[: len(names)])
        names.append(f"{child.spec.name}-{same + 1}" if same else child.spec.name)
    return names
