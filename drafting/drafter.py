"""The drafter protocol: something cheap that proposes what the target may say next.

Life of a drafter: `bind` once to a target; for each row `start`, then rounds of `propose` and `commit`, now and then
`rewind`, at last `stop`. Invariants, held by the contract tests for every drafter that is registered:

1. `propose` changes no committed state: asked twice with equal arguments, it returns equal drafts.
2. The law it declares is true: with `reject`, tokens really are drawn from the `q` it reports.
3. `parent[n] < n`, siblings differ, ids are in range, budgets and depths are respected.
4. A row's drafts do not depend on which other rows are in the batch.
5. After `rewind(row, n)` it proposes what a fresh drafter would that was started on those n tokens. A drafter that
   needs hidden states may propose nothing until the next commit brings some; a history shared by rows keeps what it
   learnt.

Whether to draft one more token may depend on the distribution it will be drawn from and on tokens that are kept,
never on a drawn token that is then dropped: under `reject` that would bias the output
(Huang et al., arXiv 2405.19715, keep the token and stop after it).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from draftproof.drafting.draft import Draft, Law
from draftproof.drafting.exits import Exits
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.model import CachedModel
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.vocabulary import Vocabulary

Need = Literal["hidden", "logits", "layers", "text"]
"""What a drafter is given beside tokens: hidden states of committed positions, their logits, a `LayeredModel` whose
lower layers it may run on the target's own cache, or the target's `Vocabulary`."""


@dataclass(frozen=True)
class DrafterSpec:
    name: str
    needs: frozenset[Need] = frozenset()
    hidden_layers: tuple[int, ...] = ()
    """Layers whose states `Commit.hidden` brings: 0 is the embedding, l the output of layer l; -1 the last layer's
    output before the final norm."""
    max_nodes: int = 8
    """Most nodes `propose` may return for a row."""
    max_depth: int = 8
    law: Law = "match"
    stepwise: bool = False
    """Drafts token by token, at a cost for each: a smaller budget is a cheaper draft, and the policy sets it before."""
    exits: Exits | None = None
    """Of a drafter that can leave the target after several layers: a policy may choose among them between rounds."""
    draft_model: str = ""
    """Digest of the model whose states `StepSignal.hidden` brings; empty where they are the target's, or of several
    models, or there are none."""


@dataclass(frozen=True)
class StepSignal:
    """What a drafter that drafts token by token knows after a step: never anything of the target of this round."""

    row: int
    step: int
    """Tokens drafted so far in this round, at least 1; the newest is kept whatever the policy says."""
    top_probability: float
    """Largest probability of the distribution that the newest token was drawn from."""
    probability: float
    """Probability of the newest token itself."""
    hidden: Tensor | None = None
    """[H_d] the drafter's last hidden state after consuming the token before the newest one."""
    layer: int | None = None
    """Exit layer, where the drafter is an early exit of the target."""


GoOn = Callable[[StepSignal], bool]


@dataclass(frozen=True)
class DraftRequest:
    rows: tuple[int, ...]
    """[B] stable row ids."""
    budget: tuple[int, ...]
    """[B] most nodes this round; 0: do not draft."""
    sampling: tuple[Sampling, ...]
    """[B] what the target will sample with; a draft law may imitate it."""
    rng: tuple[KeyedRng, ...]
    """[B] streams of the row and this round. Drafters use the purpose `draft` only."""
    go_on: GoOn | None = None
    """The length policy's word after each drafted token, for drafters that draft token by token; None: always go on."""


@dataclass(frozen=True)
class Commit:
    """What became of one row in a round, or its prompt at the start."""

    row: int
    tokens: tuple[int, ...]
    """Newly committed: accepted tokens, then the correction or bonus token. At prefill: the whole prompt and the
    first token."""
    path: tuple[int, ...]
    """Accepted node indices, from the root down: one less than `tokens`. Empty at prefill and when forced."""
    length: int
    """Committed tokens of the row after this, the last of them (the pending token) not yet in the target's cache."""
    hidden: dict[int, Tensor] = field(default_factory=dict)
    """Layer -> [n, H]. State i is the one that predicted `tokens[i]`; at prefill, one for each prompt token: state i
    predicts token i + 1, the last one the first generated token. Layers below the one that verification resumed at
    are missing: the drafter ran those itself."""
    logits: Tensor | None = None
    """[n, V] target logits at the same places; at prefill only the last one, [1, V]."""
    reason: Literal["prefill", "verify", "forced"] = "verify"
    """`forced`: a pipeline or a user put the tokens there; there is no path, and no hidden state or logit."""


@dataclass(frozen=True)
class Binding:
    """What a drafter may touch of the target."""

    model: CachedModel
    """For facts, `embed` and `head`; its rows belong to the engine unless the drafter declared the need `layers`."""
    vocabulary: Vocabulary | None
    """The target's tokens as bytes; present when the need `text` was declared and the target has a tokenizer."""


@runtime_checkable
class Drafter(Protocol):
    @property
    def spec(self) -> DrafterSpec: ...

    def bind(self, binding: Binding) -> None:
        """Once, before anything else. Raises UsageError when the drafter does not fit the target."""
        ...

    def start(self, event: Commit) -> None:
        """A new row, with its prompt and first token."""
        ...

    def propose(self, request: DraftRequest) -> Draft: ...

    def commit(self, events: Sequence[Commit]) -> None: ...

    def rewind(self, row: int, length: int) -> None:
        """Forget the row's tokens from `length` on; the token at `length - 1` is pending again."""
        ...

    def stop(self, rows: Sequence[int]) -> None:
        """The rows are done. A drafter with a shared history may keep what it learnt."""
        ...
