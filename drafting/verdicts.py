"""Generations as traces and verdicts: each token block is a step of the trace, and its verdict says what was accepted.

This is the only module of the engine that needs the verdict vocabulary; decoding itself runs without it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from draftproof.canonical import digest, short
from draftproof.drafting.generation import Block, Generation
from draftproof.drafting.sampling import Sampling
from draftproof.subject import Granularity, SubjectKey
from draftproof.trace import Step, Trace
from draftproof.verdict import AcceptanceEvidence, Cost, Guarantee, Outcome, Proposition, Verdict

SEGMENTATION = "token_blocks@1"
"""One step for each pass of the target. Digests of traces rest on it."""

VERSION = 1

_MOST_IN_JSON = 2**53 - 1
"""RFC 8785 refuses larger numbers, because readers may round them."""


def trace_of(generation: Generation, problem: str) -> Trace:
    """The generation as a trace: a step for each token block, in order; `problem` is the prompt as text."""
    return Trace(
        problem=problem,
        steps=tuple(Step(text=block.text) for block in generation.blocks),
        segmentation=SEGMENTATION,
        generator=generation.model.name,
        meta={
            "finish_reason": generation.finish_reason.value,
            "model_digest": generation.model.digest,
            "prompt_tokens": len(generation.prompt),
            "output_tokens": len(generation.tokens),
            "sampling": sampling_record(generation.sampling),
            **generation.configuration,
        },
    )


def identity_of(generation: Generation) -> str:
    """`speculative-<rule>@version#digest`: rule, drafter and policy with their arguments, sampling, and all weights."""
    config = {
        "model": generation.model.digest,
        "backend": generation.model.backend,
        "sampling": sampling_record(generation.sampling),
        **generation.configuration,
    }
    return f"speculative-{generation.parts['rule']}@{VERSION}#{short(digest(config))}"


def sampling_record(sampling: Sampling) -> dict[str, Any]:
    """As JSON that everybody reads alike: seeds that are no exact double (those of all prompts of a list but the first
    are of 63 bits) as their digits."""
    written = asdict(sampling)
    if written["seed"] > _MOST_IN_JSON:
        written["seed"] = str(written["seed"])
    return written


def verdicts_of(generation: Generation, trace: Trace) -> list[Verdict]:
    """One verdict of granularity `token_block` for each block of `trace`, which `trace_of` made.

    `accept`: the whole draft was accepted, to its full depth; `reject`: the target broke it off; `abstain`: nothing was
    drafted. The proposition is that the block is what the target itself says: exact under a lossless rule, else an
    opinion.
    """
    identity = identity_of(generation)
    verdicts, start = [], len(generation.prompt)
    for position, block in enumerate(generation.blocks):
        key = SubjectKey(trace_digest=trace.digest, granularity=Granularity.TOKEN_BLOCK, position=position)
        verdicts.append(_verdict(key, identity, block, start, generation))
        start += len(block.tokens)
    return verdicts


def _verdict(key: SubjectKey, identity: str, block: Block, start: int, generation: Generation) -> Verdict:
    record = block.record
    lossless = True if record is None else record.lossless
    outcome, reason = _outcome(block)
    evidence = AcceptanceEvidence(
        drafter="none" if record is None else record.drafter,
        law="match" if record is None else record.law,
        rule=generation.parts["rule"] if record is None else record.rule,
        drafted=0 if record is None else record.drafted,
        depth=0 if record is None else record.depth,
        accepted=0 if record is None else record.accepted,
        tokens=block.tokens,
        start=start,
    )
    return Verdict(
        subject=key,
        verifier=identity,
        proposition=Proposition.SAME_MODEL,
        outcome=outcome,
        guarantee=Guarantee.EXACT if lossless else Guarantee.OPINION,
        lossless=lossless,
        reason=reason,
        evidence=(evidence,),
        cost=Cost(
            wall_seconds=0.0 if record is None else (record.draft_ms + record.verify_ms) / 1000.0,
            calls=1,
            prompt_tokens=len(generation.prompt) if record is None else 0,
            output_tokens=len(block.tokens),
        ),
    )


def _outcome(block: Block) -> tuple[Outcome, str]:
    record = block.record
    if record is None:
        return Outcome.ABSTAIN, "prefill"
    if not record.drafted:
        return Outcome.ABSTAIN, "nothing_drafted"
    if record.accepted == record.depth:
        return Outcome.ACCEPT, "draft_accepted"
    return Outcome.REJECT, "draft_partly_accepted" if record.accepted else "draft_rejected"
