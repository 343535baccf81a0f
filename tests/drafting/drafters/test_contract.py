"""Every drafter holds the contract, and the checks of the contract find drafters that break it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from draftproof.drafting.draft import Draft, QTable, chain, pack
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest, StepSignal
from draftproof.drafting.drafters.prompt_lookup import PromptLookup
from draftproof.drafting.keyed_rng import Purpose
from draftproof.errors import ContractError
from tests.drafting.drafters import contract
from tests.drafting.drafters.contract import CHECKS
from tests.drafting.drafters.contract_life import Subject
from tests.drafting.drafters.factories import FACTORIES, Factory, Tiny


def name_of(item: object) -> str:
    return item.name if isinstance(item, Factory) else getattr(item, "__name__", str(item))


def subject_of(factory: Factory, tiny: Tiny) -> Subject:
    return Subject(
        build=lambda: factory.build(tiny),
        target=tiny.target,
        temperature=factory.temperature,
        prompt_matters=factory.prompt_matters,
        learns=factory.learns,
    )


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest.mark.parametrize("factory", FACTORIES, ids=name_of)
def test_the_contract_holds(factory: Factory, check: Callable[[Subject], None], tiny: Tiny) -> None:
    check(subject_of(factory, tiny))


@pytest.mark.parametrize("factory", [each for each in FACTORIES if each.temperature > 0], ids=name_of)
def test_tokens_follow_the_reported_law(factory: Factory, tiny: Tiny) -> None:
    contract.check_law(subject_of(factory, tiny))


class Broken(PromptLookup):
    """A sound drafter for others to break."""

    def __init__(self) -> None:
        super().__init__(max_nodes=6, max_depth=6)


class Impure(Broken):
    """Counts how often it is asked."""

    asked = 0

    def propose(self, request: DraftRequest) -> Draft:
        self.asked += 1
        return pack([chain([3 + self.asked % 90]) if budget else ([], []) for budget in request.budget])


class OutOfRange(Broken):
    def propose(self, request: DraftRequest) -> Draft:
        return pack([chain([97]) if budget else ([], []) for budget in request.budget])


class Twins(Broken):
    def propose(self, request: DraftRequest) -> Draft:
        return pack([([5, 5], [-1, -1]) if budget > 1 else ([], []) for budget in request.budget])


class Spendthrift(Broken):
    def propose(self, request: DraftRequest) -> Draft:
        return pack([chain([5] * (budget + 1)) for budget in request.budget])


class TooDeep(Broken):
    def propose(self, request: DraftRequest) -> Draft:
        return pack([chain([5] * budget) for budget in request.budget])


class Silent(Broken):
    def propose(self, request: DraftRequest) -> Draft:
        return pack([([], []) for _ in request.rows])


class Overconfident(Broken):
    """Deeper nodes are likelier than those above them."""

    def propose(self, request: DraftRequest) -> Draft:
        draft = super().propose(request)
        return replace(draft, score=torch.arange(draft.tokens.shape[1]).repeat(draft.rows, 1).float() / 10)


class Positional(Broken):
    """Drafts what the row at the same place in the batch would."""

    def propose(self, request: DraftRequest) -> Draft:
        rows = sorted(self._rows)[: len(request.rows)]
        return super().propose(replace(request, rows=tuple(rows)))


class Gossip(Broken):
    """What a row commits is drafted for the next one."""

    last = 3

    def commit(self, events: Sequence[Commit]) -> None:
        super().commit(events)
        self.last = events[-1].tokens[-1]

    def propose(self, request: DraftRequest) -> Draft:
        return pack([chain([self.last]) if budget else ([], []) for budget in request.budget])


class Remembering(Broken):
    """Rewinds its text, but goes on as if it had the tokens that were taken back."""

    def rewind(self, row: int, length: int) -> None:
        self.newest = self._rows[row].tokens[-1]
        super().rewind(row, length)

    newest: int | None = None

    def propose(self, request: DraftRequest) -> Draft:
        return super().propose(request) if self.newest is None else pack([chain([self.newest]) for _ in request.rows])


class Leftover(Broken):
    """A row that comes back under its old id still has its old text before it."""

    def stop(self, rows: Sequence[int]) -> None:
        self.kept = {row: list(self._rows[row].tokens) for row in rows}
        super().stop(rows)

    def start(self, event: Commit) -> None:
        before = tuple(getattr(self, "kept", {}).get(event.row, ()))
        super().start(replace(event, tokens=before + event.tokens))


class NeedsDrafts(Broken):
    """Takes it for granted that what is committed was drafted."""

    def commit(self, events: Sequence[Commit]) -> None:
        assert all(event.path for event in events)
        super().commit(events)


BROKEN = [
    (Impure, contract.check_purity),
    (OutOfRange, contract.check_topology),
    (Twins, contract.check_topology),
    (Spendthrift, contract.check_topology),
    (TooDeep, contract.check_topology),
    (Overconfident, contract.check_topology),
    (Silent, contract.check_it_drafts),
    (Positional, contract.check_batch_invariance),
    (Gossip, contract.check_batch_invariance),
    (Remembering, contract.check_rewind),
    (Leftover, contract.check_rows_come_and_go),
    (NeedsDrafts, contract.check_empty_and_forced_commits),
]


@pytest.mark.parametrize(("broken", "check"), BROKEN, ids=name_of)
def test_a_broken_drafter_is_found_out(broken: type[Broken], check: Callable[[Subject], None], tiny: Tiny) -> None:
    check(Subject(Broken, tiny.target))
    with pytest.raises((AssertionError, ContractError)):
        check(Subject(broken, tiny.target))


class Drawing:
    """Draws a chain from a fixed q: the least drafter of the law `reject`."""

    spec = DrafterSpec("drawing", max_nodes=3, max_depth=3, law="reject")

    def __init__(self) -> None:
        weights = torch.arange(1, 98, dtype=torch.float32) ** 2
        self.lengths: dict[int, int] = {}
        self.law = weights / weights.sum()

    def bind(self, binding: Binding) -> None: ...

    def start(self, event: Commit) -> None:
        self.lengths[event.row] = event.length

    def commit(self, events: Sequence[Commit]) -> None:
        self.lengths.update({event.row: event.length for event in events})

    def rewind(self, row: int, length: int) -> None:
        self.lengths[row] = length

    def stop(self, rows: Sequence[int]) -> None: ...

    def draw(self, request: DraftRequest, index: int, position: int) -> int:
        races = request.rng[index].exponentials(Purpose.DRAFT, position, torch.arange(97))
        return int((races / self.law).argmin())

    def keep(self, request: DraftRequest, token: int) -> bool:
        return True

    def propose(self, request: DraftRequest) -> Draft:
        trees = []
        for index, (row, budget) in enumerate(zip(request.rows, request.budget, strict=True)):
            tokens: list[int] = []
            while len(tokens) < min(budget, 3):
                token = self.draw(request, index, self.lengths[row] + len(tokens))
                if not self.keep(request, token):
                    break
                tokens.append(token)
                signal = StepSignal(row, len(tokens), float(self.law.max()), float(self.law[token]))
                if request.go_on is not None and not request.go_on(signal):
                    break
            trees.append(chain(tokens))
        draft = pack(trees)
        q = QTable(self.law.expand(draft.rows, 1, 97), torch.zeros_like(draft.tokens))
        return replace(draft, law="reject", q=q)


class Argmax(Drawing):
    """Drafts the likeliest token and reports the soft law."""

    def draw(self, request: DraftRequest, index: int, position: int) -> int:
        return int(self.law.argmax())


class Flattened(Drawing):
    """Draws from the square root of what it reports: a temperature forgotten."""

    def draw(self, request: DraftRequest, index: int, position: int) -> int:
        races = request.rng[index].exponentials(Purpose.DRAFT, position, torch.arange(97))
        return int((races / self.law.sqrt()).argmin())


class Dropping(Drawing):
    """Drops an improbable token that it has drawn, instead of stopping after it."""

    def keep(self, request: DraftRequest, token: int) -> bool:
        return float(self.law[token]) > 0.02


def test_a_truthful_law_passes(tiny: Tiny) -> None:
    contract.check_law(Subject(Drawing, tiny.target, temperature=1.0))


@pytest.mark.parametrize("broken", [Argmax, Flattened, Dropping], ids=name_of)
def test_an_untruthful_law_is_found_out(broken: type[Drawing], tiny: Tiny) -> None:
    with pytest.raises(AssertionError):
        contract.check_law(Subject(broken, tiny.target, temperature=1.0))
