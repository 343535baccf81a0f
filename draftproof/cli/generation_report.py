"""What `draftproof generate` says of a generation: figures for people on standard error, or all of it as JSON."""

from __future__ import annotations

from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draftproof.drafting.decoder import SpeculativeDecoder
    from draftproof.drafting.generation import Generation

LEAST_ROUNDS = 10
"""Below, times and their ratios are mostly noise and are not told."""


def plain_seconds(generation: Generation, decoder: SpeculativeDecoder) -> float | None:
    """What a pass for each token after the prompt would have taken. None where there were no rounds.

    An estimate, from passes as slow as those of this generation, on the same machine with the same other work: the
    policy's running costs, else the mean of the generation's own rounds without drafts. Where neither is there, passes
    over one token are timed now.
    """
    figures = generation.totals
    if not figures.rounds:
        return None
    if decoder.drafter is None:
        return (figures.draft_ms + figures.verify_ms) / 1000.0
    pass_ms = decoder.plain_pass_ms
    if pass_ms is None:
        plain = [record.verify_ms for record in generation.rounds if not record.drafted]
        pass_ms = fmean(plain) if len(plain) >= LEAST_ROUNDS else None
    if pass_ms is None:
        from draftproof.drafting.pass_costs import measure_pass_costs

        pass_ms = measure_pass_costs(decoder.model, sizes=(1,)).pass_ms(1)
    return figures.emitted * pass_ms / 1000.0


def is_context_full(generation: Generation) -> bool:
    """Whether the model's context, not --max-new-tokens, ended it."""
    used = len(generation.prompt) + len(generation.tokens)
    return generation.finish_reason.value == "length" and used >= generation.model.context_length


def summarise(generation: Generation, decoder: SpeculativeDecoder) -> None:
    """Length, acceptance, time and parts, a line for each."""
    from draftproof.cli.screen import say

    figures = generation.totals
    seconds = (figures.draft_ms + figures.verify_ms) / 1000.0
    count = len(generation.tokens)
    speed = f", {figures.emitted / seconds:.1f} tokens/s" if seconds else ""
    ended = f"ended by {generation.finish_reason.value.replace('_', ' ')}"
    if is_context_full(generation):
        ended = f"ended because the context of {generation.model.context_length} tokens is full"
    say("")
    say(f"{count} token{'' if count == 1 else 's'} after {len(generation.prompt)} of prompt{speed}, {ended}.")
    if figures.rounds:
        say(
            f"acceptance length {figures.acceptance_length:.2f} · block efficiency {figures.block_efficiency:.2f} · "
            f"{figures.accepted} of {figures.drafted} drafted tokens accepted in {figures.rounds} passes"
        )
    plain = plain_seconds(generation, decoder)
    if plain is not None and seconds and decoder.drafter is not None:
        ratio = f" ({plain / seconds:.2f}x)" if figures.rounds >= LEAST_ROUNDS else ""
        say(f"{seconds:.2f} s after the prompt; plain decoding would have taken about {plain:.2f} s{ratio}, estimated.")
    lossless = all(record.lossless for record in generation.rounds)
    parts = generation.parts
    say(
        f"drafter {parts['drafter']} · rule {parts['rule']} ({'lossless' if lossless else 'lossy'}) · "
        f"policy {parts['policy']} · {generation.model.name} on {generation.model.backend}"
    )


def as_json(generation: Generation, decoder: SpeculativeDecoder, run_id: str | None) -> dict[str, Any]:
    """All of it, as plain JSON."""
    figures = generation.totals
    seconds = (figures.draft_ms + figures.verify_ms) / 1000.0
    return {
        "text": generation.text,
        "finish_reason": generation.finish_reason.value,
        "context_full": is_context_full(generation),
        "prompt_tokens": len(generation.prompt),
        "output_tokens": len(generation.tokens),
        "tokens": list(generation.tokens),
        "acceptance_length": figures.acceptance_length,
        "acceptance_rate": figures.acceptance_rate,
        "block_efficiency": figures.block_efficiency,
        "rounds": figures.rounds,
        "drafted": figures.drafted,
        "accepted": figures.accepted,
        "seconds": seconds,
        "tokens_per_second": figures.emitted / seconds if seconds else None,
        "plain_seconds": plain_seconds(generation, decoder),
        "lossless": all(record.lossless for record in generation.rounds),
        "model": generation.model.name,
        "model_digest": generation.model.digest,
        "backend": generation.model.backend,
        **generation.parts,
        "configuration": dict(generation.configuration),
        "sampling": asdict(generation.sampling),
        "run": run_id,
        "logprobs": [
            {
                "token": each.token,
                "text": _text(each.token, decoder),
                "logprob": each.logprob,
                "top": [
                    {"token": token, "text": _text(token, decoder), "logprob": logprob} for token, logprob in each.top
                ],
            }
            for each in generation.logprobs
        ]
        or None,
    }


def _text(token: int, decoder: SpeculativeDecoder) -> str:
    """A token's text, of a control token its name. Bytes that are no UTF-8 alone are U+FFFD."""
    if decoder.vocabulary is not None and token not in decoder.vocabulary.special_ids:
        return decoder.vocabulary.decode([token])
    tokenizer: Any = decoder.tokenizer
    return str(tokenizer.convert_ids_to_tokens(token)) if tokenizer is not None else ""
