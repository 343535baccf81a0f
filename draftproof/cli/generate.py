"""`draftproof generate`: text from a target model, drafted by something cheap, verified token for token."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from draftproof.cli.options import Json, Store, store_url
from draftproof.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from draftproof.drafting.decoder import Prompt, SpeculativeDecoder
    from draftproof.drafting.generation import Generation
    from draftproof.drafting.sampling import Sampling

HELP = """Generate text by speculative decoding: a drafter proposes tokens, the target model verifies them in one pass.

The output has the target's own law, sooner; the rule typical, marked lossy, alone changes it. Greedy output is
plain decoding's token for token. So is sampled output under the rule match, which auto takes for drafters that copy.
For drafters that report probabilities (small-lm, …) auto takes rules that are lossless in law: equal seeds then
give plain decoding's text only with `--rule match`.

On a terminal, drafted tokens that were accepted are green. The summary says what drafting saved.

    draftproof models fetch smollm2-135m
    draftproof generate "Rewrite in plain words: The party of the first part shall …"
    draftproof generate - --raw --max-new-tokens 400 < story.txt
    draftproof generate "Name three rivers." --drafter none --temperature 0.8 --seed 7
    draftproof generate "2+2?" --target ./my-llama --drafter small-lm:model=./my-draft --json

Every round is stored as a verdict (`token_block`); see them with draftproof verdicts query."""


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to say to the model, or - for standard input.")],
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="M", help="Name, folder, .gguf file or hub id of the target model.")
    ] = "smollm2-135m",
    drafter: Annotated[
        str,
        typer.Option(
            "--drafter", "-d", metavar="NAME[:key=value,…]", help="What drafts; none decodes plainly. See --list-parts."
        ),
    ] = "suffix",
    rule: Annotated[
        str, typer.Option("--rule", metavar="NAME[:key=value,…]", help="Acceptance rule; auto suits the drafter.")
    ] = "auto",
    policy: Annotated[str, typer.Option("--policy", metavar="NAME[:key=value,…]", help="How much to draft.")] = "cost",
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", min=1, help="Most tokens to generate.")
    ] = 256,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy decoding.")] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="Sample from the k most probable; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", help="Sample from the smallest set with this mass.")] = 1.0,
    repetition_penalty: Annotated[
        float, typer.Option("--repetition-penalty", help="Above 1 makes tokens that occurred less likely.")
    ] = 1.0,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", min=0, help="Of sampling. Text is the same whatever drafts under --rule match; see above."
        ),
    ] = 0,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before this text; may be repeated.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="System message of the chat.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Go on from PROMPT as it is, without a chat template.")] = False,
    logprobs: Annotated[
        int | None,
        typer.Option("--logprobs", min=0, metavar="N", help="With --json: log-probabilities of N alternatives."),
    ] = None,
    store: Store = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Store no verdicts.")] = False,
    list_parts: Annotated[
        bool,
        typer.Option(
            "--list-parts",
            help="List drafters, rules and policies, and exit.",
            is_eager=True,
            callback=lambda v: _list_parts(v),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    text = sys.stdin.read() if prompt == "-" else prompt
    if raw and system is not None:
        raise UsageError("--system belongs to a chat, and --raw makes none.")
    if logprobs is not None and not as_json:
        raise UsageError("--logprobs are printed by --json only.")
    decoder = _decoder(target, drafter, rule, policy)
    from draftproof.drafting.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    asked = _prompt(text, system, raw or not getattr(decoder.tokenizer, "chat_template", None))
    if not no_store:
        decoder.sink = _Sink(store_url(store), text if system is None else f"{system}\n\n{text}")
    options = {"max_new_tokens": max_new_tokens, "stop": tuple(stop or ()), "logprobs": logprobs}
    generation = _run(decoder, asked, sampling, options, quiet=as_json)
    if as_json:
        json.dump(_as_json(generation, decoder), sys.stdout, ensure_ascii=False)
        print()
    else:
        _summarise(generation, decoder)


def _list_parts(wanted: bool) -> None:
    if not wanted:
        return
    from draftproof.drafting.drafters.catalogue import LISTINGS as DRAFTERS
    from draftproof.drafting.policies.catalogue import LISTINGS as POLICIES
    from draftproof.drafting.rules.catalogue import LISTINGS as RULES

    for kind, listings in (("drafter", DRAFTERS), ("rule", RULES), ("policy", POLICIES)):
        for each in listings:
            print(f"{kind:8} {each.name:20} {each.summary}")
    raise typer.Exit


def _decoder(target: str, drafter: str, rule: str, policy: str) -> SpeculativeDecoder:
    try:
        from draftproof.drafting.decoder import SpeculativeDecoder
        from draftproof.drafting.models.load import load_model
        from draftproof.drafting.parts import drafter_of, policy_of, rule_of
    except ImportError as error:
        raise MissingExtraError(
            f"Generating text needs the package {error.name!r}.", remedy="Install it: pip install 'draftproof[engine]'."
        ) from error
    from draftproof.settings import settings

    made = drafter_of(drafter), rule_of(rule), policy_of(policy)  # wrong names are told before a model is loaded
    loaded = load_model(target, models_folder=settings().cache_dir / "models")
    return SpeculativeDecoder(loaded, made[0], rule=made[1], policy=made[2])


def _prompt(text: str, system: str | None, raw: bool) -> Prompt:
    if raw:
        return text
    messages = [] if system is None else [{"role": "system", "content": system}]
    return [*messages, {"role": "user", "content": text}]


def _run(
    decoder: SpeculativeDecoder, prompt: Prompt, sampling: Sampling, options: dict[str, Any], *, quiet: bool
) -> Generation:
    if quiet:
        return decoder.generate([prompt], sampling=sampling, **options)[0]
    from draftproof.cli.acceptance_view import AcceptanceView

    view = AcceptanceView(decoder.vocabulary)
    generation = None
    for chunk in decoder.stream(prompt, sampling=sampling, **options):
        view.show(chunk)
        generation = chunk.generation
    view.end()
    assert generation is not None, "the last chunk carries it"
    return generation


class _Sink:
    """Stores each generation as a trace of token blocks, with a verdict for each block, in a run of its own."""

    def __init__(self, url: str, problem: str) -> None:
        from draftproof.store.verdict_store import VerdictStore

        self._store = VerdictStore.open(url)
        self._problem = problem

    def __call__(self, generation: Generation) -> None:
        from draftproof.drafting.verdicts import trace_of, verdicts_of

        trace = trace_of(generation, self._problem)
        run = self._store.begin_run("generate", settings=dict(trace.meta))
        self._store.add_traces(run.id, [trace])
        self._store.add(verdicts_of(generation, trace), run.id)
        self._store.finish_run(run.id)
        self.run_id = run.id


def _plain_seconds(generation: Generation, decoder: SpeculativeDecoder) -> float | None:
    """What one pass a token would have taken, by the measured cost of a pass; None when it was not measured."""
    if decoder.costs is None:
        return None
    return generation.totals.emitted * decoder.costs.pass_ms(1) / 1000.0


def _summarise(generation: Generation, decoder: SpeculativeDecoder) -> None:
    from draftproof.cli.screen import say

    figures = generation.totals
    seconds = (figures.draft_ms + figures.verify_ms) / 1000.0
    say("")
    if not figures.rounds or not seconds:
        say(f"{len(generation.tokens)} token, ended by {generation.finish_reason.value}.")
        return
    speed = figures.emitted / seconds
    parts = generation.parts
    say(
        f"{len(generation.tokens)} tokens after {len(generation.prompt)} of prompt, {speed:.1f} tokens/s, "
        f"ended by {generation.finish_reason.value.replace('_', ' ')}."
    )
    say(
        f"acceptance length {figures.acceptance_length:.2f} · block efficiency {figures.block_efficiency:.2f} · "
        f"{figures.accepted} of {figures.drafted} drafted tokens accepted in {figures.rounds} passes"
    )
    plain = _plain_seconds(generation, decoder)
    if plain is not None:
        say(f"{seconds:.2f} s; plain decoding would have taken {plain:.2f} s ({plain / seconds:.2f}x).")
    lossless = all(record.lossless for record in generation.rounds)
    say(
        f"drafter {parts['drafter']} · rule {parts['rule']} ({'lossless' if lossless else 'lossy'}) · "
        f"policy {parts['policy']} · {generation.model.name} on {generation.model.backend}"
    )
    if isinstance(decoder.sink, _Sink):
        say(f"Every round is a verdict of run {decoder.sink.run_id}: draftproof runs show {decoder.sink.run_id}")


def _as_json(generation: Generation, decoder: SpeculativeDecoder) -> dict[str, Any]:
    figures = generation.totals
    seconds = (figures.draft_ms + figures.verify_ms) / 1000.0
    return {
        "text": generation.text,
        "finish_reason": generation.finish_reason.value,
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
        "plain_seconds": _plain_seconds(generation, decoder),
        "lossless": all(record.lossless for record in generation.rounds),
        "model": generation.model.name,
        "model_digest": generation.model.digest,
        **generation.parts,
        "run": decoder.sink.run_id if isinstance(decoder.sink, _Sink) else None,
        "logprobs": [
            {"token": each.token, "logprob": each.logprob, "top": [list(pair) for pair in each.top]}
            for each in generation.logprobs
        ]
        or None,
    }
