"""Rounds with one drafter, for the checks of `contract.py`: what a session does, with made-up outcomes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

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
