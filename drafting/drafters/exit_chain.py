"""Chains drafted by the target's own lower layers, on the target's own cache.

Layers 0 … E-1 run over the pending token and each drafted one, in scratch slots; a readout makes draft logits of their
output. The outputs are kept for all of them, the last drafted token included, so that verification runs layers E and
above only (Elhoushi et al., arXiv 2404.16710, section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from draftproof.drafting.draft import Draft, Resume
from draftproof.drafting.drafter import Binding
from draftproof.drafting.drafters.chain_draws import ChainDraws
from draftproof.drafting.model import LayeredModel, RowTokens
from draftproof.errors import ContractError, UsageError

Readout = Callable[[Sequence[int], Tensor], Tensor]
"""From indices of rows [A] and their newest states at the exit [A, H] to draft logits [A, W]."""


@dataclass(frozen=True)
class ExitChain:
    draft: Draft
    lower: list[dict[int, Tensor]]
    """For each row, layer -> [1 + nodes, H]: states below the exit that were asked for."""


def layered(binding: Binding, exits: Sequence[int], drafter: str) -> LayeredModel:
    """The target, if its layers can be run in part and it has those that are asked for."""
    model, info = binding.model, binding.model.info
    if not hasattr(model, "run_layers") or not getattr(model, "supports_layers", True):
        raise UsageError(
            f"The drafter {drafter!r} runs layers of the target, which {info.architecture} on the backend "
            f"{info.backend!r} does not offer.",
            remedy="Use a target of the Llama, Mistral or Qwen families, or another drafter.",
        )
    wrong = [layer for layer in exits if not 0 < layer < info.n_layers]
    if wrong:
        raise UsageError(
            f"{info.name} has {info.n_layers} layers, so it can be left after 1 … {info.n_layers - 1} of them; "
            f"{drafter!r} was told {wrong[0]}."
        )
    return cast(LayeredModel, model)


def draft_through_layers(
    model: LayeredModel,
    layer: int,
    rows: Sequence[int],
    texts: Sequence[Sequence[int]],
    draws: ChainDraws,
    readout: Readout,
    lower: tuple[int, ...] = (),
) -> ExitChain:
    """Draft with layers 0 … `layer` - 1 until `draws` has no row that goes on.

    Rows that do not draft run the lower layers too: verification resumes at one layer for the whole batch.
    """
    for row, text in zip(rows, texts, strict=True):
        if model.length(row) != len(text) - 1:
            raise ContractError(
                f"The target's cache holds {model.length(row)} tokens of row {row}, and {len(text) - 1} were expected: "
                "all that are committed but the pending one."
            )
    newest = [text[-1] for text in texts]
    states: list[list[Tensor]] = [[] for _ in rows]
    below: list[dict[int, list[Tensor]]] = [{tap: [] for tap in lower} for _ in rows]
    running, going = list(range(len(rows))), draws.beginning()
    while running:
        batch = [
            RowTokens(rows[index], torch.tensor([newest[index]], dtype=torch.int64), start=len(states[index]))
            for index in running
        ]
        result = model.run_layers(batch, 0, layer, taps=lower)
        output = result.hidden[layer]
        for place, index in enumerate(running):
            states[index].append(output[place])
            for tap in lower:
                below[index][tap].append(result.hidden[tap][place])
        if not going:
            break
        place_of = {index: place for place, index in enumerate(running)}
        output = output[[place_of[index] for index in going]]
        # Every row that drew a token runs the lower layers over it, whether or not it draws another one.
        running, going = going, draws.draw(going, readout(going, output), output, layer)
        for index in running:
            newest[index] = draws.tokens[index][-1]
    width = max(len(each) for each in states)
    hidden = states[0][0].new_zeros((len(rows), width, len(states[0][0])))
    for index, each in enumerate(states):
        hidden[index, : len(each)] = torch.stack(each)
    draft = draws.draft(Resume(layer, hidden))
    return ExitChain(draft, [{tap: torch.stack(each) for tap, each in taps.items()} for taps in below])
