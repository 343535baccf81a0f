"""The default policy: verify what pays, by measured costs and by what was accepted so far.

A round with drafted nodes n of estimated path acceptance s_n emits 1 + Σ s_n tokens a row and costs the time of
drafting plus v(1 + nodes). The policy picks the set of nodes, none included, with the most tokens per second
(the throughput form of Leviathan et al., arXiv 2211.17192, theorem 3.8, with measured v(k) in place of v = 1), over
all rows of a batch together. The costs follow what passes take while it decodes.

Where the drafter scores its nodes, the draft is cut to the best set after it is made; the scores are first scaled by
how much of what this drafter promised came true, in the row and at each depth. Where it does not, or where the law
forbids cutting, the number of nodes is set before drafting, from running acceptance at each depth and what drafting a
node has taken.

Scores that are not kept lose their weight, so a drafter that costs next to nothing need never be left out. One whose
drafts take time and lose against plain decoding is asked less and less often, at doubling intervals that follow what
asking loses: its cost vanishes, and it can come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DrafterSpec, StepSignal
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.policies.depth_record import DepthRecord
from draftproof.drafting.policies.promise_record import PromiseRecord
from draftproof.drafting.policies.running_costs import RunningCosts
from draftproof.drafting.prune import keep_nodes
from draftproof.drafting.rounds import RowRound

MEMORY = 0.9
"""Weight that a running figure keeps each round: it forgets over about ten rounds."""

LOSING = 0.03
"""Drafting is suspended when it loses this share of a plain pass per round; the gap keeps noise from deciding."""

PROBING = 0.01
"""Share of the time that asking a suspended drafter again may cost: it sets how long pauses become."""

PATIENCE = 3
"""Longer drafts are considered until so many lengths in a row are no better: passes may cost more by jumps."""

LONGEST_PAUSE = 128
"""Rounds: bounds how late a returning drafter is noticed."""


@dataclass
class _Standing:
    """Whether a row's drafter is asked."""

    gained: float
    """Running gain over plain decoding of rounds in which the drafter was asked, in plain passes."""
    interval: int
    """Rounds of the next pause."""
    pause: int = 0
    """Rounds still to go without drafting."""
    probing: bool = True
    """A new row and the end of a pause: try once, whatever is expected."""
    asked: bool = False

    def judge(self, gained: float, verified: bool) -> None:
        """After a round in which the drafter was asked, and something of its draft verified or nothing."""
        self.gained = MEMORY * self.gained + (1 - MEMORY) * gained
        self.probing = False
        if self.gained < -LOSING:
            self.suspend()
        elif verified:
            self.interval, self.pause = 1, 0

    def suspend(self) -> None:
        """For no longer than asking again is then worth PROBING of the time."""
        longest = max(1, min(LONGEST_PAUSE, int(-self.gained / PROBING)))
        self.pause = min(self.interval, longest)
        self.interval = min(2 * self.interval, longest)
        self.probing = False


class Cost:
    """Maximises expected tokens per second. See the module's text."""

    name = "cost"
    needs_costs = True

    def __init__(self, max_nodes: int = 32) -> None:
        self.max_nodes = max_nodes
        self._rows: dict[int, _Standing] = {}

    def bind(self, costs: PassCosts | None, drafter: DrafterSpec) -> None:
        assert costs is not None, "declared by needs_costs"
        self._plain = RunningCosts(costs)
        # A drafter that runs layers of the target leaves the rest of them to verification: another kind of pass.
        self._verification = RunningCosts(costs, beside=self._plain) if "layers" in drafter.needs else self._plain
        self._budget = min(self.max_nodes, drafter.max_nodes)
        self._decides_beforehand = drafter.stepwise or drafter.law != "match"
        self._promises = PromiseRecord()
        self._depths = DepthRecord()
        self._draft_ms = 0.0
        self._draft_steps = 0.0
        """Running time of a round's drafting, all rows together, and nodes of the largest draft: where drafting goes
        token by token, rows take their steps together, and the longest draft is paid for."""
        self._steps = 0
        """Of the running round."""
        self._newcomer = _Standing(gained=0.0, interval=1)
        """How a row begins: by what rows before it came to."""

    @property
    def plain_costs(self) -> RunningCosts:
        """What passes without drafts cost now; to be read only."""
        return self._plain

    def budgets(self, rows: Sequence[int]) -> tuple[int, ...]:
        self._steps = 0
        due = []
        for row in rows:
            standing = self._standing(row)
            if standing.pause == 0:
                due.append(row)
            else:
                standing.pause -= 1
                standing.probing = standing.pause == 0
        chosen = dict.fromkeys(due, self._budget)
        if self._decides_beforehand and due:  # who pauses may join: the steps are taken anyway
            chosen = self._lengths(rows, len(rows), self._draft_ms / max(1.0, self._draft_steps))
            for row in due:
                if not chosen[row]:
                    self._rows[row].suspend()
        for row in rows:
            self._rows[row].asked = chosen.get(row, 0) > 0
        return tuple(chosen.get(row, 0) for row in rows)

    def go_on(self, signal: StepSignal) -> bool:
        return True

    def cut(self, rows: Sequence[int], draft: Draft) -> Draft:
        """Over all rows at once: nodes share the pass, so the next best node of any row is the next to be bought."""
        made = draft.n_nodes.tolist()
        self._steps = max(made)
        if draft.score is None:
            if self._decides_beforehand:
                return draft
            wanted = self._lengths(rows, len(rows), step_ms=0.0)
            return keep_nodes(draft, [range(min(each, wanted[row])) for row, each in zip(rows, made, strict=True)])
        ranked = []
        for index, row in enumerate(rows):
            worth = self._promises.worth(row, *_scored(draft, index))
            ranked += [(score, index, node) for node, score in enumerate(worth)]
        ranked.sort(key=lambda each: (-each[0], each[1], each[2]))  # so parents come first
        passes = self._passes_ms(len(rows), len(ranked))
        count, _ = _best_count([score for score, _, _ in ranked], passes, self._draft_ms, len(rows))
        if count < len(ranked):
            kept: list[list[int]] = [[] for _ in rows]
            for _, index, node in ranked[:count]:
                kept[index].append(node)
            draft = keep_nodes(draft, [sorted(nodes) for nodes in kept])
        for index, row in enumerate(rows):
            self._promises.give(row, *_scored(draft, index))
        return draft

    def observe(self, rounds: Sequence[RowRound]) -> None:
        batch, nodes = len(rounds), sum(record.drafted for record in rounds)
        passes = self._verification if nodes else self._plain
        passes.observe(batch + nodes, sum(record.verify_ms for record in rounds))
        asked = [record for record in rounds if self._standing(record.row).asked]
        if not asked:
            return
        draft_ms = sum(record.draft_ms for record in rounds)
        steps = max(self._steps, *(record.drafted for record in rounds))
        if steps or not self._decides_beforehand:
            self._draft_ms = _running(self._draft_ms, draft_ms)
            self._draft_steps = _running(self._draft_steps, steps)
        plain_ms = self._plain.pass_ms(batch)
        node_ms = (passes.pass_ms(batch + nodes) - plain_ms) / max(1, nodes)
        for record in asked:
            if record.drafted:
                self._depths.note(record.row, record.depth, record.accepted)
            self._promises.note(record.row, record.accepted, bool(record.drafted))
            spent_ms = draft_ms / len(asked) + node_ms * record.drafted
            self._rows[record.row].judge(record.accepted - spent_ms * batch / plain_ms, bool(record.drafted))

    def forget(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._promises.forget(row)
            self._depths.forget(row)
            gone = self._rows.pop(row, None)
            if gone is not None:
                self._newcomer = _Standing(gone.gained, gone.interval)

    # Estimates

    def _standing(self, row: int) -> _Standing:
        if row not in self._rows:
            self._rows[row] = replace(self._newcomer)
        return self._rows[row]

    def _passes_ms(self, rows: int, most: int) -> list[float]:
        """Of passes over the pending tokens of `rows` rows and 0 … `most` nodes."""
        drafted = [self._verification.pass_ms(rows + count) for count in range(1, most + 1)]
        return [self._plain.pass_ms(rows), *drafted]

    def _lengths(self, rows: Sequence[int], batch: int, step_ms: float) -> dict[int, int]:
        """Draft lengths of chains by running acceptance: tokens are bought like scored nodes, each row's against every
        other's, for each length that the longest draft may have.

        A row for which nothing pays drafts one token when it is time to try again.
        """
        ranked = sorted(
            (-path, depth, row)
            for row in rows
            for depth, path in enumerate(self._depths.paths(row, self._budget), start=1)
        )
        passes = self._passes_ms(batch, len(ranked))
        best: list[int] = []
        best_speed, peak, peak_at = batch / passes[0], 0.0, 0
        for longest in range(1, self._budget + 1):
            within = [(-worth, row) for worth, depth, row in ranked if depth <= longest]
            count, speed = _best_count([worth for worth, _ in within], passes, longest * step_ms, batch)
            if speed > best_speed:
                best_speed, best = speed, [row for _, row in within[:count]]
            if speed > peak:
                peak, peak_at = speed, longest
            elif longest - peak_at > PATIENCE:
                break
        lengths = {row: best.count(row) for row in rows}
        for row in rows:
            if not lengths[row] and self._standing(row).probing:
                lengths[row] = min(1, self._budget)
        return lengths


def _scored(draft: Draft, index: int) -> tuple[list[float], list[int]]:
    assert draft.score is not None
    parents = draft.tree(index)[1]
    return draft.score[index, : len(parents)].tolist(), parents


def _best_count(scores: Sequence[float], passes: Sequence[float], draft_ms: float, rows: int) -> tuple[int, float]:
    """How many of the best nodes to verify in one pass, and the tokens per millisecond of a round with so many."""
    best, best_speed, gain = 0, rows / (draft_ms + passes[0]), float(rows)
    for count, score in enumerate(scores, start=1):
        gain += score
        speed = gain / (draft_ms + passes[count])
        if speed > best_speed:
            best, best_speed = count, speed
    return best, best_speed


def _running(old: float, new: float) -> float:
    return new if old == 0.0 else MEMORY * old + (1 - MEMORY) * new
