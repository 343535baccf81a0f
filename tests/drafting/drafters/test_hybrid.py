"""Hybrids: fusing, choosing, learning whom to believe, and telling each child what was accepted of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch

from draftproof.drafting.draft import Draft, QTable, Resume, chain, empty_draft, pack
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.drafters.hybrid import TRIAL_ROUNDS, Hybrid
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError
from tests.drafting.drafters.asking import paths


@dataclass
class Scripted:
    """Drafts what it is told to, and keeps what it hears."""

    tree: tuple[list[int], list[int]]
    scores: list[float]
    spec: DrafterSpec = field(default_factory=lambda: DrafterSpec("scripted"))
    q: QTable | None = None
    resume: Resume | None = None
    heard: list[Commit] = field(default_factory=list)
    asked: int = 0
    vocabulary: Vocabulary | None = None

    def bind(self, binding: Binding) -> None:
        self.vocabulary = binding.vocabulary

    def start(self, event: Commit) -> None: ...

    def rewind(self, row: int, length: int) -> None: ...

    def stop(self, rows: Sequence[int]) -> None: ...

    def commit(self, events: Sequence[Commit]) -> None:
        self.heard.extend(events)

    def propose(self, request: DraftRequest) -> Draft:
        if not any(request.budget):
            return empty_draft(len(request.rows))
        self.asked += 1
        draft = pack([self.tree] * len(request.rows), [self.scores] * len(request.rows))
        return replace(draft, law=self.spec.law, q=self.q, resume=self.resume)


TARGET = SimpleNamespace(info=SimpleNamespace(vocab_size=20, eos_ids=frozenset()))


def joined(*children: Scripted, mode: str = "arbitrate", brought: float = 0.0, **settings: int) -> Hybrid:
    """`brought`: tokens that the last child had right per round, by its record."""
    hybrid = Hybrid(children, mode=mode, **settings)  # type: ignore[arg-type]
    hybrid._records[-1].mean_kept = brought
    hybrid.bind(Binding(TARGET, None))  # type: ignore[arg-type]
    hybrid.start(Commit(0, (1, 2), (), 2, reason="prefill"))
    return hybrid


def ask(hybrid: Hybrid, budget: int = 8, temperature: float = 0.0, rows: tuple[int, ...] = (0,)) -> Draft:
    sampling = Sampling(temperature=temperature)
    count = len(rows)
    return hybrid.propose(DraftRequest(rows, (budget,) * count, (sampling,) * count, (KeyedRng(0),) * count))


def tell(hybrid: Hybrid, tokens: tuple[int, ...], path: tuple[int, ...] = ()) -> None:
    hybrid.commit([Commit(0, tokens, path, 9)])


def test_merged_drafts_are_one_tree_within_the_budget() -> None:
    hybrid = joined(
        Scripted(chain([5, 6]), [0.6, 0.5]), Scripted(chain([5, 7]), [0.5, 0.05]), mode="merge", max_nodes=3
    )
    assert set(paths(ask(hybrid))) == {(5,), (5, 6), (5, 7)}
    assert set(paths(ask(hybrid, 2))) == {(5,), (5, 6)}
    assert hybrid.spec.law == "match"


def test_arbitration_takes_the_draft_that_promises_most_and_names_its_drafter() -> None:
    low = Scripted(chain([5, 6]), [0.5, 0.2], DrafterSpec("low"))
    high = Scripted(chain([7]), [0.9], DrafterSpec("high"))
    draft = ask(joined(low, high))
    assert (draft.tree(0)[0], draft.source) == ([7], ("high",))


def test_who_promises_too_much_is_believed_less() -> None:
    """`proud` promises 0.9 and is never right; `modest` promises 0.5 and always is."""
    proud = Scripted(chain([5]), [0.9], DrafterSpec("proud"))
    modest = Scripted(chain([7]), [0.5], DrafterSpec("modest"))
    hybrid = joined(proud, modest)
    assert ask(hybrid).source == ("proud",)
    for _ in range(12):
        ask(hybrid)
        tell(hybrid, (7, 3))
    assert ask(hybrid).source == ("modest",)


def test_what_is_learnt_in_a_row_counts_there_first_and_is_forgotten_with_it() -> None:
    proud = Scripted(chain([5]), [0.9], DrafterSpec("proud"))
    modest = Scripted(chain([7]), [0.8], DrafterSpec("modest"))
    hybrid = joined(proud, modest)
    hybrid.start(Commit(1, (1, 2), (), 2, reason="prefill"))
    for _ in range(3):
        ask(hybrid)
        tell(hybrid, (7, 3))
    assert ask(hybrid, rows=(0,)).source == ("modest",)
    factors = [record.factor(0) for record in hybrid._records]
    hybrid.rewind(0, 1)
    assert (
        [record.factor(0) for record in hybrid._records] == [record.factor(1) for record in hybrid._records] != factors
    )


def test_forced_tokens_teach_nothing() -> None:
    hybrid = joined(Scripted(chain([5]), [0.9]), Scripted(chain([7]), [0.5]))
    for _ in range(5):
        ask(hybrid)
        hybrid.commit([Commit(0, (7, 3), (), 9, reason="forced")])
    assert [record.factor(0) for record in hybrid._records] == [1.0, 1.0]


def test_a_truthful_child_keeps_its_word_whatever_is_verified() -> None:
    """It says 0.5 for each of two tokens; over outcomes in those proportions its factor stays near 1."""
    child = Scripted(([5, 6], [-1, 0]), [0.5, 0.25])
    hybrid = joined(child, Scripted(chain([9]), [0.01]))
    for _ in range(10):
        for said in ((8,), (8,), (5, 8), (5, 6, 8)):
            ask(hybrid)
            tell(hybrid, said)
    assert hybrid._records[0].factor(0) == pytest.approx(1.0, abs=0.1)


def test_each_child_hears_of_its_own_nodes() -> None:
    bush = Scripted(([5, 7, 8], [-1, -1, 1]), [0.4, 0.5, 0.3])
    other = Scripted(chain([7, 9]), [0.6, 0.5])
    hybrid = joined(bush, other, mode="merge")
    draft = ask(hybrid)
    found = list(paths(draft))
    tell(hybrid, (7, 8, 3), (found.index((7,)), found.index((7, 8))))
    assert bush.heard[-1].path == (1, 2)
    assert other.heard[-1].path == (0,)
    assert other.heard[-1].tokens == (7, 8, 3)


def test_a_costly_child_is_not_asked_where_a_cheap_one_promises_more_than_it_brings() -> None:
    cheap = Scripted(chain([5]), [0.9], DrafterSpec("cheap"))
    costly = Scripted(chain([7]), [0.5], DrafterSpec("costly", stepwise=True))
    hybrid = joined(cheap, costly)
    for _ in range(TRIAL_ROUNDS):
        ask(hybrid)
        tell(hybrid, (5, 3))
    before = costly.asked
    ask(hybrid)
    assert costly.asked == before
    cheap.scores = [0.0]
    costly_usually = hybrid._records[1]
    costly_usually.mean_kept = 0.4
    ask(hybrid)
    assert costly.asked == before + 1


def law_of(token: int) -> QTable:
    probs = torch.full((1, 1, 20), 0.5 / 19)
    probs[0, 0, token] = 0.5
    return QTable(probs, torch.zeros((1, 1), dtype=torch.int64))


REJECT = DrafterSpec("drawing", law="reject")


def test_the_law_of_a_drawing_child_is_kept_with_its_q() -> None:
    drawing = Scripted(chain([7]), [0.9], REJECT, law_of(7))
    draft = ask(joined(Scripted(chain([5]), [0.1]), drawing, brought=0.9), temperature=1.0)
    assert draft.law == "reject"
    assert draft.q is not None
    torch.testing.assert_close(draft.q.probs[0, draft.q.of[0, 0]], law_of(7).probs[0, 0])


def test_a_copy_under_that_law_is_a_chain_drawn_from_certainty() -> None:
    copying = Scripted(([5, 6, 8], [-1, -1, 0]), [0.5, 0.4, 0.3])
    draft = ask(joined(copying, Scripted(chain([7]), [0.1], REJECT, law_of(7))), temperature=1.0)
    assert (draft.law, draft.tree(0)) == ("reject", ([5, 8], [-1, 0]))
    assert draft.q is not None
    rows = draft.q.probs[0][draft.q.of[0]]
    torch.testing.assert_close(rows, torch.nn.functional.one_hot(torch.tensor([5, 8]), 20).float())


def test_greedy_rows_keep_the_tree() -> None:
    copying = Scripted(([5, 6, 8], [-1, -1, 0]), [0.5, 0.4, 0.3])
    draft = ask(joined(copying, Scripted(chain([7]), [0.1], REJECT, law_of(7))))
    assert (draft.law, draft.tree(0)) == ("match", copying.tree)


def test_a_q_over_some_tokens_is_spread_over_all() -> None:
    probs = torch.tensor([[[0.25, 0.75]]])
    some = QTable(probs, torch.zeros((1, 1), dtype=torch.int64), torch.tensor([3, 7]))
    drawing = Scripted(chain([7]), [0.9], REJECT, some)
    draft = ask(joined(Scripted(chain([5]), [0.1]), drawing, brought=0.9), temperature=1.0)
    assert draft.q is not None
    row = draft.q.probs[0, draft.q.of[0, 0]]
    assert (float(row[3]), float(row[7]), float(row.sum())) == (0.25, 0.75, 1.0)


def test_states_to_resume_from_survive_only_where_they_still_fit() -> None:
    states = Resume(4, torch.zeros(1, 2, 8))
    early = Scripted(chain([7]), [0.9], DrafterSpec("early", frozenset({"layers"})), resume=states)
    copying = Scripted(chain([5]), [0.1])
    assert ask(joined(copying, early)).resume is states
    assert ask(joined(copying, early, mode="merge")).resume is None
    shallow = Scripted(chain([5]), [0.1], DrafterSpec("heads", frozenset({"hidden"}), (2,)))
    assert ask(joined(shallow, early)).resume is None
    twin = Scripted(chain([5]), [0.1], DrafterSpec("twin", frozenset({"layers"})))
    assert ask(joined(twin, early)).resume is None


def test_needs_are_joined_and_the_vocabulary_goes_to_those_that_need_it() -> None:
    reading = Scripted(chain([5]), [0.1], DrafterSpec("reading", frozenset({"text"})))
    tapping = Scripted(chain([5]), [0.1], DrafterSpec("tapping", frozenset({"hidden"}), (-1, 2)))
    hybrid = Hybrid([reading, tapping])
    assert hybrid.spec.needs == {"text", "hidden"}
    assert hybrid.spec.hidden_layers == (-1, 2)
    letters: Vocabulary = SimpleNamespace(size=20)  # type: ignore[assignment]
    hybrid.bind(Binding(TARGET, letters))  # type: ignore[arg-type]
    assert reading.vocabulary is letters
    assert tapping.vocabulary is None


def test_two_of_a_kind_are_told_apart() -> None:
    assert Hybrid([Scripted(chain([5]), [0.1]), Scripted(chain([5]), [0.1])]).spec.name == "hybrid(scripted+scripted-2)"


def test_what_cannot_be_joined_is_refused() -> None:
    with pytest.raises(UsageError, match="at least two"):
        Hybrid([Scripted(chain([5]), [0.1])])
    several = DrafterSpec("several", law="reject_wor")
    with pytest.raises(UsageError, match="reject, reject_wor cannot be arbitrated"):
        Hybrid([Scripted(chain([5]), [0.1], REJECT), Scripted(chain([5]), [0.1], several)], mode="arbitrate")
    assert Hybrid([Scripted(chain([5]), [0.1], REJECT), Scripted(chain([5]), [0.1], several)]).spec.law == "match"
