"""The default policy: verify what pays, by measured costs and by what was accepted so far.

A round with drafted nodes n of estimated path acceptance s_n emits 1 + Σ s_n tokens a row and costs the time of
drafting plus v(1 + nodes). The policy picks the set of nodes, none included, with the most tokens per second
(the throughput form of Leviathan et al., arXiv 2211.17192, theorem 3.8, with measured v(k) in place of v = 1).

Where the drafter scores its nodes, the draft is cut to the best set after it is made; the scores are first scaled by
how much of what this drafter promised came true. Where it does not, or where the law forbids cutting, the
number of nodes is set before drafting, from running acceptance at each depth. A drafter that loses against plain
decoding is asked less and less often, at doubling intervals: its cost vanishes, and it can come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from draftproof.drafting.draft import Draft
from draftproof.drafting.drafter import DrafterSpec, StepSignal
from draftproof.drafting.pass_costs import PassCosts
from draftproof.drafting.prune import keep_nodes
from draftproof.drafting.rounds import RowRound

MEMORY = 0.9
"""Weight that a running figure keeps each round: it forgets over about ten rounds."""

PRIOR_ACCEPTANCE = 0.6
"""Acceptance of a drafted token before anything was seen, where the drafter gives no scores."""

PRIOR_TRUST = 2.0
"""Promised tokens that a drafter is believed to have kept before anything was seen."""

LOSING = 0.97
"""Drafting is suspended below this share of plain decoding's throughput; the gap keeps noise from deciding."""

LONGEST_PAUSE = 64
"""Rounds: bounds what probing a useless drafter costs, and how late a returning one is noticed."""


@dataclass
class _RowHistory:
    emitted: float = 0.0
    spent_ms: float = 0.0
    """Running tokens and time of rounds in which the drafter was asked."""
    promised: float = PRIOR_TRUST
    kept: float = PRIOR_TRUST
    reached: list[float] = field(default_factory=list)
    """Depth -> running count of drafted tokens there whose parent was accepted."""
    passed: list[float] = field(default_factory=list)
    """Depth -> running count of those that were accepted."""
    pause: int = 0
    """Rounds still to go without drafting."""
    next_pause: int = 1
    asked: bool = False
    draft_ms: float = 0.0
    """Running cost of a draft."""


class Cost:
    """Maximises expected tokens per second. See the module's text."""

    name = "cost"
    needs_costs = True

    def __init__(self, max_nodes: int = 32) -> None:
        self.max_nodes = max_nodes
        self._rows: dict[int, _RowHistory] = {}

    def bind(self, costs: PassCosts | None, drafter: DrafterSpec) -> None:
        assert costs is not None, "declared by needs_costs"
        self._costs = costs
        self._spec = drafter
        self._budget = min(self.max_nodes, drafter.max_nodes)
        self._decides_beforehand = drafter.stepwise or drafter.law != "match"

    def budgets(self, rows: Sequence[int]) -> tuple[int, ...]:
        chosen = []
        for row in rows:
            history = self._rows.setdefault(row, _RowHistory())
            history.asked = False
            if history.pause > 0:
                history.pause -= 1
                chosen.append(0)
                continue
            budget = self._best_length(history, len(rows)) if self._decides_beforehand else self._budget
            history.asked = budget > 0
            chosen.append(budget)
        return tuple(chosen)

    def go_on(self, signal: StepSignal) -> bool:
        return True

    def cut(self, rows: Sequence[int], draft: Draft) -> Draft:
        """Over all rows at once: nodes share the pass, so the next best node of any row is the next to be bought."""
        if draft.score is None:
            return self._cut_to_length(rows, draft)
        ranked = []
        for index, row in enumerate(rows):
            trust = self._trust(row)
            worth: list[float] = []
            for score, parent in zip(draft.score[index].tolist(), draft.tree(index)[1], strict=False):
                worth.append(min(1.0 if parent < 0 else worth[parent], score * trust))  # not above its parent's
            ranked += [(score, index, node) for node, score in enumerate(worth)]
        ranked.sort(key=lambda each: (-each[0], each[1], each[2]))  # so parents come first
        overhead = sum(self._rows[row].draft_ms for row in rows if row in self._rows)
        count = self._best_count([score for score, _, _ in ranked], len(rows), overhead)
        kept: list[list[int]] = [[] for _ in rows]
        for _, index, node in ranked[:count]:
            kept[index].append(node)
        if count == len(ranked):
            return draft
        return keep_nodes(draft, [sorted(nodes) for nodes in kept])

    def observe(self, rounds: Sequence[RowRound]) -> None:
        for record in rounds:
            history = self._rows.setdefault(record.row, _RowHistory())
            history.promised = MEMORY * history.promised + (1 - MEMORY) * PRIOR_TRUST
            history.kept = MEMORY * history.kept + (1 - MEMORY) * PRIOR_TRUST
            if not history.asked:
                continue
            history.draft_ms = _running(history.draft_ms, record.draft_ms)
            history.emitted = _running(history.emitted, record.accepted + 1)
            history.spent_ms = _running(history.spent_ms, record.draft_ms + record.verify_ms)
            if record.drafted:
                if record.score is not None:
                    history.promised += record.score
                    history.kept += record.accepted
                self._note_depths(history, record)
            self._suspend_if_losing(history, len(rounds))

    def forget(self, rows: Sequence[int]) -> None:
        for row in rows:
            self._rows.pop(row, None)

    # Estimates

    def _trust(self, row: int) -> float:
        history = self._rows.get(row)
        return 1.0 if history is None else min(1.5, history.kept / history.promised)

    def _best_count(self, scores: Sequence[float], rows: int, overhead_ms: float) -> int:
        """How many of the best nodes to verify in one pass beside the pending tokens of `rows` rows."""
        best, best_speed, gain = 0, rows / (overhead_ms + self._costs.pass_ms(rows)), float(rows)
        for count, score in enumerate(scores, start=1):
            gain += score
            speed = gain / (overhead_ms + self._costs.pass_ms(rows + count))
            if speed > best_speed:
                best, best_speed = count, speed
        return best

    def _best_length(self, history: _RowHistory, rows: int) -> int:
        """Draft length of a chain by running acceptance; drafting is priced by the node, from what it has cost."""
        a_node = history.draft_ms / max(1, len(history.reached)) if history.reached else 0.0
        best, best_speed = 0, 1.0 / self._costs.pass_ms(rows)
        gain, path = 1.0, 1.0
        for length in range(1, self._budget + 1):
            path *= self._acceptance(history, length - 1)
            gain += path
            speed = gain / (a_node * length + self._costs.pass_ms(rows + length))
            if speed > best_speed:
                best, best_speed = length, speed
        return best

    def _cut_to_length(self, rows: Sequence[int], draft: Draft) -> Draft:
        kept = []
        for index, row in enumerate(rows):
            history = self._rows.setdefault(row, _RowHistory())
            kept.append(list(range(min(int(draft.n_nodes[index]), self._best_length(history, len(rows))))))
        return keep_nodes(draft, kept)

    def _acceptance(self, history: _RowHistory, depth: int) -> float:
        """Running acceptance at a depth, with one pseudo-observation of the prior; unseen depths are as the last."""
        if not history.reached:
            return PRIOR_ACCEPTANCE
        at = min(depth, len(history.reached) - 1)
        return (history.passed[at] + PRIOR_ACCEPTANCE) / (history.reached[at] + 1.0)

    def _note_depths(self, history: _RowHistory, record: RowRound) -> None:
        tested = min(record.accepted + 1, record.depth)
        while len(history.reached) < tested:
            history.reached.append(0.0)
            history.passed.append(0.0)
        for depth in range(tested):
            history.reached[depth] = MEMORY * history.reached[depth] + 1.0
            history.passed[depth] = MEMORY * history.passed[depth] + (1.0 if depth < record.accepted else 0.0)

    def _suspend_if_losing(self, history: _RowHistory, rows: int) -> None:
        plain_ms = self._costs.pass_ms(rows) / rows
        if history.emitted * plain_ms < LOSING * history.spent_ms:
            history.pause = history.next_pause
            history.next_pause = min(2 * history.next_pause, LONGEST_PAUSE)
        else:
            history.next_pause = 1


def _running(old: float, new: float) -> float:
    return new if old == 0.0 else MEMORY * old + (1 - MEMORY) * new
