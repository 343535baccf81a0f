"""What every drafter must hold, as checks that take any of them (the list is at the top of `drafting/drafter.py`).

A check builds the drafter anew, lives rounds with it on a real target, and raises AssertionError when an invariant is
broken. What is accepted in a round is decided by a keyed coin, not by the target: a drafter is told what happened and
may not assume why. `test_contract.py` runs all checks on every drafter of `factories.py`, and on broken ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from scipy.stats import chi2

from draftproof.drafting.checks import check_draft, depth_of
from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest, GoOn
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel, RowTokens, Wanted
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.vocabulary import Vocabulary

ROWS = (7, 3, 12)
"""Neither ascending nor gapless: a drafter that takes a row's id for its place in the batch is found out."""
PERIOD = 7
"""Length of the phrase that prompts repeat."""
ROUNDS = 6
ALL_LOGITS = Wanted()
LAW_SEEDS = 500
IMPROBABLE = 1e-5
"""A truthful drafter fails a law check this rarely; seeds are fixed, so one that passes always passes."""


@dataclass(frozen=True)
class Subject:
    """A drafter under test."""

    build: Callable[[], Drafter]
    """A new drafter, not bound."""
    target: CachedModel
    vocabulary: Vocabulary | None = None
    temperature: float = 0.0
    prompt_matters: bool = False
    """It treats the prompt unlike other text: a fresh drafter to compare with is given prompt and rest apart."""
    learns: bool = False
    """It keeps what verified rounds or finished rows taught it, for all rows; compared on forced tokens only."""


def prompt_of(row: int) -> list[int]:
    """A prompt with much to copy from: a phrase that comes back with changes."""
    chance = random.Random(row)
    phrase = [chance.randrange(3, 90) for _ in range(PERIOD)]
    text: list[int] = []
    for _ in range(5):
        text += phrase
        text[-chance.randrange(1, PERIOD)] = chance.randrange(3, 90)
    return text + phrase[:3]


@dataclass
class Life:
    """Rounds with one drafter: what a session does, with the outcome of verification made up."""

    subject: Subject
    drafter: Drafter = field(init=False)
    texts: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.drafter = self.subject.build()
        spec, target = self.drafter.spec, self.subject.target
        self.drafter.bind(Binding(target, self.subject.vocabulary if "text" in spec.needs else None))
        self.taps = {layer: layer % (target.info.n_layers + 1) for layer in spec.hidden_layers}

    def __enter__(self) -> Life:
        return self

    def __exit__(self, *_: object) -> None:
        for row in self.texts:
            self.subject.target.drop_row(row)

    def start(self, row: int, prompt: Sequence[int], first: int | None = None) -> None:
        target = self.subject.target
        target.add_row(row)
        wanted = Wanted(logits="last", taps=tuple(sorted(set(self.taps.values()))))
        result = target.forward([RowTokens(row, torch.tensor(prompt))], wanted)
        target.commit(row, range(len(prompt)))
        token = prompt[-PERIOD] if first is None else first
        self.texts[row] = [*prompt, token]
        hidden = {layer: result.hidden[tap] for layer, tap in self.taps.items()}
        logits = result.logits if "logits" in self.drafter.spec.needs else None
        self.drafter.start(
            Commit(row, tuple(self.texts[row]), (), len(self.texts[row]), hidden, logits, reason="prefill")
        )

    def request(self, rows: Sequence[int], budget: int, *, seed: int = 0, go_on: GoOn | None = None) -> DraftRequest:
        sampling = [Sampling(temperature=self.subject.temperature, seed=1000 * seed + row) for row in rows]
        return DraftRequest(
            tuple(rows), (budget,) * len(rows), tuple(sampling), tuple(KeyedRng(each.seed) for each in sampling), go_on
        )

    def propose(self, rows: Sequence[int], budget: int) -> Draft:
        return self.drafter.propose(self.request(rows, budget))

    def verify(self, rows: Sequence[int], draft: Draft, *, accept: float = 0.7) -> None:
        """A pass of the target over the draft, then a made-up outcome."""
        target, taps = self.subject.target, tuple(sorted(set(self.taps.values())))
        batch = []
        for index, row in enumerate(rows):
            tokens, parents = draft.tree(index)
            fed = torch.tensor([self.texts[row][-1], *tokens])
            batch.append(RowTokens(row, fed, torch.tensor([-1, *(parent + 1 for parent in parents)])))
        result = target.forward(batch, Wanted(taps=taps))
        assert result.logits is not None
        events = []
        for index, row in enumerate(rows):
            path, token = self._outcome(row, *draft.tree(index), accept)
            slots = [0, *(node + 1 for node in path)]
            target.commit(row, slots)
            new = [*(draft.tree(index)[0][node] for node in path), token]
            self.texts[row] += new
            hidden = {layer: result.hidden[tap][result.bounds[index] :][slots] for layer, tap in self.taps.items()}
            logits = result.logits[result.logit_bounds[index] :][slots] if "logits" in self.drafter.spec.needs else None
            events.append(Commit(row, tuple(new), tuple(path), len(self.texts[row]), hidden, logits))
        self.drafter.commit(events)

    def force(self, row: int, tokens: Sequence[int]) -> None:
        fed = torch.tensor([self.texts[row][-1], *tokens[:-1]])
        self.subject.target.forward([RowTokens(row, fed)], Wanted(logits="none"))
        self.subject.target.commit(row, range(len(fed)))
        self.texts[row] += tokens
        self.drafter.commit([Commit(row, tuple(tokens), (), len(self.texts[row]), reason="forced")])

    def rewind(self, row: int, length: int) -> None:
        self.subject.target.truncate(row, length - 1)
        del self.texts[row][length:]
        self.drafter.rewind(row, length)

    def stop(self, row: int) -> None:
        self.subject.target.drop_row(row)
        del self.texts[row]
        self.drafter.stop([row])

    def plain_round(self, row: int) -> None:
        """A round without a draft: what brings hidden states to a drafter that lacks them."""
        self.verify([row], self.drafter.propose(self.request([row], 0)))

    def _outcome(self, row: int, tokens: list[int], parents: list[int], accept: float) -> tuple[list[int], int]:
        """A path, and a token after it that is no child of its end; the same for the same text and draft."""
        coin = self._coin(row, len(self.texts[row]))
        path: list[int] = []
        at = -1
        while True:
            children = [node for node, parent in enumerate(parents) if parent == at]
            if not children or coin.random() > accept:
                break
            at = coin.choice(children)
            path.append(at)
        refused = {tokens[node] for node in children}
        copied = [*self.texts[row], *(tokens[node] for node in path)][-PERIOD]
        token = copied if copied not in refused and coin.random() < 0.5 else coin.randrange(3, 90)
        while token in refused:
            token = coin.randrange(3, 90)
        return path, token

    def _coin(self, row: int, length: int) -> random.Random:
        return random.Random(row * 10_007 + length)


def run(life: Life, rows: Sequence[int], rounds: int = ROUNDS, budget: int = 5) -> list[Draft]:
    """Rounds of `rows` together, and the drafts that were made."""
    drafts = []
    for _ in range(rounds):
        draft = life.propose(rows, budget)
        drafts.append(draft)
        life.verify(rows, draft)
    return drafts


def assert_same(left: Draft, right: Draft, at: int, other: int, why: str) -> None:
    """Row `at` of one draft and row `other` of another say the same; figures up to rounding."""
    assert left.tree(at) == right.tree(other), f"{why}: {left.tree(at)} and {right.tree(other)}"
    assert left.law == right.law, why
    count = int(left.n_nodes[at])
    if not count:
        return
    assert (left.score is None) == (right.score is None), why
    if left.score is not None and right.score is not None:
        torch.testing.assert_close(left.score[at, :count], right.score[other, :count], rtol=1e-4, atol=1e-5)
    if left.q is not None and right.q is not None:
        first = left.q.probs[at][left.q.of[at, :count]]
        second = right.q.probs[other][right.q.of[other, :count]]
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)


def check_spec(subject: Subject) -> None:
    with Life(subject) as life:
        spec, layers = life.drafter.spec, subject.target.info.n_layers
        assert spec.name
        assert spec.max_nodes >= 1
        assert spec.max_depth >= 1
        assert all(-1 <= layer <= layers for layer in spec.hidden_layers)
        assert bool(spec.hidden_layers) == ("hidden" in spec.needs)


def check_it_drafts(subject: Subject) -> None:
    """Drafting nothing is legal in a round, but not always."""
    with Life(subject) as life:
        life.start(ROWS[0], prompt_of(ROWS[0]))
        drafts = run(life, ROWS[:1])
        assert any(int(draft.n_nodes[0]) for draft in drafts), "never drafted"


def check_topology(subject: Subject) -> None:
    """Parents before children, siblings differ, ids in range, budget and depth kept, figures that make sense."""
    with Life(subject) as life:
        for row in ROWS:
            life.start(row, prompt_of(row))
        spec = life.drafter.spec
        for budget in (0, 1, 2, 5, spec.max_nodes, spec.max_nodes + 7):
            request = life.request(ROWS, budget)
            draft = life.drafter.propose(request)
            check_draft(draft, request, subject.target.info.vocab_size, spec.name)
            _check_figures(draft, spec.max_nodes, spec.max_depth)
            assert draft.law in (spec.law, "match")
            life.verify(ROWS, draft)


def _check_figures(draft: Draft, max_nodes: int, max_depth: int) -> None:
    for index in range(draft.rows):
        tokens, parents = draft.tree(index)
        count = len(tokens)
        assert count <= max_nodes, f"{count} nodes, {max_nodes} declared"
        assert depth_of(parents) <= max_depth, f"depth {depth_of(parents)}, {max_depth} declared"
        assert bool((draft.tokens[index, count:] == -1).all()), "padding is -1"
        if draft.law == "reject":
            assert len(set(parents)) == len(parents), "under the law reject no node has a sibling"
        if draft.score is not None:
            scores = draft.score[index, :count].tolist()
            for node, parent in enumerate(parents):
                above = 1.0 if parent < 0 else scores[parent]
                assert 0.0 <= scores[node] <= above + 1e-5, "a path is no likelier than its beginning"
        if draft.q is not None and count:
            rows = draft.q.probs[index][draft.q.of[index, :count]]
            torch.testing.assert_close(rows.sum(-1), torch.ones(count), rtol=0, atol=1e-4)
            ids = draft.q.ids
            assert ids is None or bool((ids[1:] > ids[:-1]).all()), "ids of q ascend"


def check_purity(subject: Subject) -> None:
    """Asked twice, or for less in between, a drafter says the same."""
    with Life(subject) as life:
        for row in ROWS:
            life.start(row, prompt_of(row))
        for _ in range(ROUNDS):
            first = life.propose(ROWS, 5)
            life.propose(ROWS[1:], 2)
            second = life.propose(ROWS, 5)
            for index in range(len(ROWS)):
                assert_same(first, second, index, index, "propose changed what it proposes")
            life.verify(ROWS, second)


def check_batch_invariance(subject: Subject) -> None:
    """A row's drafts are those it gets alone, whatever rows stand beside it and in whichever order."""
    with Life(subject) as life:
        for row in ROWS:
            life.start(row, prompt_of(row))
        for round_ in range(ROUNDS):
            order = ROWS if round_ % 2 else ROWS[::-1]
            together = life.propose(order, 5)
            for index, row in enumerate(order):
                assert_same(together, life.propose([row], 5), index, 0, f"row {row} alone and in the batch")
            life.verify(order, together)
    if subject.learns:
        return
    for row in ROWS:
        with Life(subject) as crowd, Life(replace_target(subject)) as alone:
            for each in ROWS:
                crowd.start(each, prompt_of(each))
            alone.start(row, prompt_of(row))
            for left, right in zip(run(crowd, ROWS, 3), run(alone, [row], 3), strict=True):
                assert_same(left, right, ROWS.index(row), 0, f"row {row} in a life of its own")


def replace_target(subject: Subject) -> Subject:
    """The same subject with row ids of its own, for two lives at once on one target."""
    return replace(subject, target=OtherRows(subject.target))


@dataclass(frozen=True)
class OtherRows:
    """A target whose rows are numbered apart from those of the same model in other lives."""

    model: CachedModel

    SHIFT = 1 << 40

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def add_row(self, row: int) -> None:
        self.model.add_row(row + self.SHIFT)

    def drop_row(self, row: int) -> None:
        self.model.drop_row(row + self.SHIFT)

    def length(self, row: int) -> int:
        return self.model.length(row + self.SHIFT)

    def commit(self, row: int, slots: Sequence[int]) -> None:
        self.model.commit(row + self.SHIFT, slots)

    def truncate(self, row: int, length: int) -> None:
        self.model.truncate(row + self.SHIFT, length)

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = ALL_LOGITS) -> object:
        return self.model.forward([replace(each, row=each.row + self.SHIFT) for each in batch], wanted)

    def run_layers(self, batch: Sequence[RowTokens], *rest: object, **named: object) -> object:
        moved = [replace(each, row=each.row + self.SHIFT) for each in batch]
        return self.model.run_layers(moved, *rest, **named)  # type: ignore[attr-defined]


def check_rewind(subject: Subject) -> None:
    """After a rewind a drafter says what a fresh one would that knows those tokens only."""
    row = ROWS[0]
    prompt = prompt_of(row)
    for back in (1, 4, 9):
        with Life(subject) as life, Life(replace_target(subject)) as fresh:
            life.start(row, prompt)
            if subject.learns:
                life.force(row, prompt[3:17])
            else:
                run(life, [row], ROUNDS)
                life.force(row, [5, 6, 5, 6])
                run(life, [row], 2)
            length = max(len(prompt) + 1, len(life.texts[row]) - back)
            life.rewind(row, length)
            text = life.texts[row]
            if subject.prompt_matters:
                fresh.start(row, prompt, text[len(prompt)])
                if length > len(prompt) + 1:
                    fresh.force(row, text[len(prompt) + 1 :])
            else:
                fresh.start(row, text[:-1], text[-1])
            draft, wanted = life.propose([row], 5), fresh.propose([row], 5)
            if "hidden" in life.drafter.spec.needs and not int(draft.n_nodes[0]):
                life.plain_round(row)
                fresh.plain_round(row)
                draft, wanted = life.propose([row], 5), fresh.propose([row], 5)
            assert_same(draft, wanted, 0, 0, f"rewound by {back}")
            for _ in range(2):
                life.verify([row], draft)
                fresh.verify([row], wanted)
                draft, wanted = life.propose([row], 5), fresh.propose([row], 5)
                if not subject.learns:
                    assert_same(draft, wanted, 0, 0, f"rounds after a rewind by {back}")


def check_empty_and_forced_commits(subject: Subject) -> None:
    """Rounds where nothing is accepted, and tokens that nobody drafted."""
    row = ROWS[1]
    with Life(subject) as life:
        life.start(row, prompt_of(row))
        for round_ in range(ROUNDS):
            life.verify([row], life.propose([row], 5), accept=-1.0)
            if round_ % 2:
                life.force(row, [11 + round_, 12, 13])
                request = life.request([row], 5)
                check_draft(
                    life.drafter.propose(request), request, subject.target.info.vocab_size, life.drafter.spec.name
                )
            life.plain_round(row)


def check_rows_come_and_go(subject: Subject) -> None:
    """A stopped row leaves nothing to one that takes its id, and nothing to those that stay."""
    one, two, three = ROWS
    with Life(subject) as life, Life(replace_target(subject)) as quiet:
        life.start(one, prompt_of(one))
        life.start(two, prompt_of(two))
        quiet.start(two, prompt_of(two))
        run(life, [one], 2)
        life.stop(one)
        life.start(one, prompt_of(three))
        quiet.start(one, prompt_of(three))
        here, there = life.propose([two, one], 5), quiet.propose([one, two], 5)
        if not subject.learns:
            assert_same(here, there, 0, 1, f"row {two}, which stayed")
            assert_same(here, there, 1, 0, f"row {one}, which came back as another")
        life.verify([two, one], here)
        life.stop(two)
        run(life, [one], 2)


def check_law(subject: Subject) -> None:
    """Drawn tokens follow the `q` they are reported with, siblings in turn without replacement (Pearson's test).

    Half of the drafts may stop after an improbable token, as a length policy may have it.
    """
    row = ROWS[0]
    with Life(subject) as life:
        life.start(row, prompt_of(row))
        run(life, [row], 2)
        if "hidden" in life.drafter.spec.needs:
            life.plain_round(row)
        size = subject.target.info.vocab_size
        seen, expected = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        for seed in range(LAW_SEEDS):
            go_on: GoOn | None = (lambda signal: signal.probability > 0.2) if seed % 2 else None
            draft = life.drafter.propose(life.request([row], 3, seed=seed, go_on=go_on))
            _count(draft, seen, expected)
    if life.drafter.spec.law == "match":
        return
    assert float(expected.sum()) > 0, "no token was drawn from a reported q"
    impossible = seen[expected == 0].sum()
    assert not impossible, "drew a token that q gives no mass"
    order = expected.argsort(descending=True)
    common = order[expected[order] >= 5.0]
    rare = order[expected[order] < 5.0]
    bins = [(float(seen[v]), float(expected[v])) for v in common] + [
        (float(seen[rare].sum()), float(expected[rare].sum()))
    ]
    bins = [(o, e) for o, e in bins if e > 1.0]
    statistic = sum((o - e) ** 2 / e for o, e in bins)
    chance = float(chi2.sf(statistic, max(len(bins) - 1, 1)))
    assert chance > IMPROBABLE, f"tokens do not follow q: chi-square {statistic:.1f} over {len(bins)} bins"


def _count(draft: Draft, seen: torch.Tensor, expected: torch.Tensor) -> None:
    """Add a draft's drawn tokens, and what `q` expects at each of their places."""
    if draft.law == "match":
        return
    assert draft.q is not None
    tokens, parents = draft.tree(0)
    ids = torch.arange(len(seen)) if draft.q.ids is None else draft.q.ids
    for node, (token, parent) in enumerate(zip(tokens, parents, strict=True)):
        law = torch.zeros(len(seen), dtype=torch.float64)
        law[ids] = draft.q.probs[0, draft.q.of[0, node]].double()
        if draft.law == "reject_greedy" and parent in parents[node + 1 :]:
            continue  # chosen, not drawn
        older = [tokens[other] for other in range(node) if parents[other] == parent]
        law[older] = 0.0
        expected += law / law.sum()
        seen[token] += 1


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_spec,
    check_it_drafts,
    check_topology,
    check_purity,
    check_batch_invariance,
    check_rewind,
    check_empty_and_forced_commits,
    check_rows_come_and_go,
)
"""Held at any temperature. `check_law` says something only where tokens are drawn."""
