"""`draftproof generate`: text from a target model, drafted by something cheap, verified token for token."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from draftproof.cli.options import Json, Store, store_arguments, store_url
from draftproof.errors import ExitStatus, InputError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from draftproof.cli.acceptance_view import GenerationStatus
    from draftproof.cli.generation_log import GenerationLog
    from draftproof.drafting.decoder import SpeculativeDecoder
    from draftproof.drafting.generation import Generation
    from draftproof.drafting.prompts import Prompt
    from draftproof.drafting.sampling import Sampling

HELP = """Generate text by speculative decoding: a drafter proposes tokens, the target model verifies them in one pass.

The output has the target's own law, sooner; the rule typical, marked lossy, alone changes it. Greedy output is
plain decoding's token for token, but for near ties of logits, which a pass over several tokens may round the other way.
So is sampled output under the rule match, which auto takes for drafters that copy.
For drafters that report probabilities (small-lm, …) auto takes rules that are lossless in law: equal seeds then
give plain decoding's text only with `--rule match`.

On a terminal, drafted tokens that were accepted are green, and acceptance and speed stand below the text as it comes.
The summary says what drafting saved.

    draftproof models fetch smollm2-135m
    draftproof generate "Rewrite in plain words: The party of the first part shall …"
    draftproof generate - --raw --max-new-tokens 400 < story.txt
    draftproof generate "Name three rivers." --drafter none --temperature 0.8 --seed 7
    draftproof generate "2+2?" --target ./my-llama --drafter small-lm:model=./my-draft --json

PROMPT is a message of a chat, in which no text is taken for a control token; with --raw it is read as it is.

Every round is stored as a verdict (`token_block`); see them with draftproof verdicts query.

Exit status: 3 the model cannot be loaded or go on · 6 the store cannot be used · 130/143 stopped; what there was of
the text is stored, and the same command starts anew."""


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
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="Where the target runs: cpu, cuda, cuda:1, …")
    ] = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="float32|bfloat16|float16",
            help="Of the target's weights. [default: float32 on the CPU, elsewhere the checkpoint's own]",
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option("--backend", metavar="auto|lean|transformers", help="What runs the target; see models info."),
    ] = "auto",
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
    text = _read(prompt)
    if raw and system is not None:
        raise UsageError("--system belongs to a chat, and --raw makes none.")
    if logprobs is not None and not as_json:
        raise UsageError("--logprobs are printed by --json only.")
    if store is not None and no_store:
        raise UsageError("--store names a store, and --no-store wants none.", remedy="Give one of them.")
    _check_texts(text, system, stop or [])
    from draftproof.cli.acceptance_view import GenerationStatus

    with GenerationStatus() as status:
        status.show(f"Loading {target} …")
        decoder = _decoder(target, (drafter, rule, policy), (backend, dtype, device), status)
        from draftproof.drafting.checks import check_prompt
        from draftproof.drafting.sampling import Sampling

        sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
        asked = _prompt(text, system, raw or not getattr(decoder.tokenizer, "chat_template", None))
        check_prompt(decoder.encode(asked), decoder.model.info)  # before a run is begun for it
        options = {"max_new_tokens": max_new_tokens, "stop": list(stop or ()), "logprobs": logprobs}
        log = None
        if not no_store:
            asked_for = {"target": target, "drafter": drafter, "rule": rule, "policy": policy, "raw": raw, **options}
            problem = text if system is None else f"{system}\n\n{text}"
            log = _log(store_url(store), problem, decoder, sampling, asked_for)
        generation, ended = _run(decoder, asked, sampling, options, log, status, quiet=as_json)
    _report(generation, decoder, log, ended, store_arguments(store), in_json=as_json)
    raise typer.Exit(ended)


def _read(prompt: str) -> str:
    if prompt != "-":
        return prompt
    raw = sys.stdin.buffer.read()
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"Standard input is not UTF-8 text: its byte {error.start} is 0x{raw[error.start]:02x}.",
            remedy="Convert it first, as in iconv -f latin1 -t utf-8.",
        ) from error


def _check_texts(prompt: str, system: str | None, stop: list[str]) -> None:
    if not prompt.strip():
        raise UsageError("The prompt is empty.", remedy="Say something to the model, or name - for standard input.")
    if not all(stop):
        raise UsageError("--stop takes a text that is not empty.")
    for name, text in (("The prompt", prompt), ("--system", system or ""), *(("--stop", text) for text in stop)):
        try:
            text.encode()
        except UnicodeEncodeError as error:  # bytes of an argument that were no UTF-8
            raise UsageError(f"{name} is not UTF-8 text, at character {error.start}.") from error


def _list_parts(wanted: bool) -> None:
    if not wanted:
        return
    from draftproof.drafting.drafters.catalogue import LISTINGS as DRAFTERS
    from draftproof.drafting.policies.catalogue import LISTINGS as POLICIES
    from draftproof.drafting.rules.catalogue import LISTINGS as RULES

    kinds = (("drafter", DRAFTERS), ("rule", RULES), ("policy", POLICIES))
    if "--json" in sys.argv:  # which is not parsed yet: this option goes first
        listed = [
            {
                "kind": kind,
                "name": each.name,
                "summary": each.summary,
                "arguments": [
                    {"name": it.name, "required": it.required, "default": None if it.required else it.default}
                    for it in each.arguments
                    if it.in_text
                ],
            }
            for kind, listings in kinds
            for each in listings
        ]
        print(json.dumps(listed))
        raise typer.Exit
    for kind, listings in kinds:
        for each in listings:
            print(f"{kind:8} {each.name:20} {each.summary}")
    raise typer.Exit


def _decoder(
    target: str, parts: tuple[str, str, str], where: tuple[str, str | None, str], status: GenerationStatus
) -> SpeculativeDecoder:
    try:
        import torch

        from draftproof.drafting.decoder import SpeculativeDecoder
        from draftproof.drafting.models.load import load_model
        from draftproof.drafting.parts import drafter_of, policy_of, rule_of
    except ImportError as error:
        raise MissingExtraError(
            f"Generating text needs the package {error.name!r}.", remedy="Install it: pip install 'draftproof[engine]'."
        ) from error
    from draftproof.settings import settings

    backend, dtype, device = where
    dtypes = {None: None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype not in dtypes:
        raise UsageError(f"--dtype is {dtype!r}; expected float32, bfloat16 or float16.")
    drafter, rule, policy = parts
    folder = settings().models_folder
    made = (
        drafter_of(drafter, folder),
        rule_of(rule),
        policy_of(policy),
    )  # wrong names are told before the model
    loaded = load_model(target, backend=cast(Any, backend), dtype=dtypes[dtype], device=device, models_folder=folder)
    if made[0] is not None and made[2].needs_costs:
        status.show("Measuring passes …")
    decoder = SpeculativeDecoder(loaded, made[0], rule=made[1], policy=made[2])
    decoder.configuration |= {"drafter": drafter, "rule": rule, "policy": policy}  # as asked for, not as made
    return decoder


def _prompt(text: str, system: str | None, raw: bool) -> Prompt:
    if raw:
        return text
    messages = [] if system is None else [{"role": "system", "content": system}]
    return [*messages, {"role": "user", "content": text}]


def _log(
    url: str, problem: str, decoder: SpeculativeDecoder, sampling: Sampling, settings: dict[str, Any]
) -> GenerationLog:
    from draftproof.cli.generation_log import GenerationLog
    from draftproof.drafting.verdicts import sampling_record

    info = decoder.model.info
    model = {
        "model": info.name,
        "model_digest": info.digest,
        "backend": info.backend,
        "device": str(info.device),
        "dtype": str(info.dtype).removeprefix("torch."),
    }
    command = "draftproof " + shlex.join(sys.argv[1:])
    return GenerationLog(url, problem, command, {**settings, "sampling": sampling_record(sampling), **model})


def _run(
    decoder: SpeculativeDecoder,
    prompt: Prompt,
    sampling: Sampling,
    options: dict[str, Any],
    log: GenerationLog | None,
    status: GenerationStatus,
    *,
    quiet: bool,
) -> tuple[Generation, ExitStatus]:
    """The generation, whole or as far as it came before Ctrl-C or SIGTERM, which are heeded between two rounds."""
    from draftproof.batch.stopping import Stopping, Terminated
    from draftproof.cli.acceptance_view import AcceptanceView

    made: list[Generation] = []

    def keep(generation: Generation) -> None:
        made.append(generation)
        if log is not None:
            log(generation)

    decoder.sink = keep
    view = None if quiet else AcceptanceView(decoder.vocabulary)
    stopping, ended, failure = Stopping(), ExitStatus.SETTLED, None
    with stopping.heeded():
        stream = decoder.stream(prompt, sampling=sampling, **options)
        try:
            for chunk in stream:
                status.count(chunk, printed=view is not None)
                if view is not None:
                    view.show(chunk)
                stopping.check()
        except BaseException as error:
            failure = error
            stream.close()  # hands what there is to `keep`
            if not isinstance(error, KeyboardInterrupt | Terminated):
                raise
            ended = ExitStatus.TERMINATED if isinstance(error, Terminated) else ExitStatus.INTERRUPTED
            if not made:  # told twice to stop, in the midst of the prompt
                raise typer.Exit(ended) from None
        finally:
            try:
                if view is not None:
                    view.end()
            finally:
                if log is not None:
                    log.finish(failure)
    return made[0], ended


def _report(
    generation: Generation,
    decoder: SpeculativeDecoder,
    log: GenerationLog | None,
    ended: ExitStatus,
    store: str,
    *,
    in_json: bool,
) -> None:
    from draftproof.cli.generation_report import as_json, summarise
    from draftproof.cli.screen import say

    run_id = None if log is None else log.run_id
    if in_json:
        print(json.dumps(as_json(generation, decoder, run_id), ensure_ascii=False))
        return
    if ended is not ExitStatus.SETTLED:
        kept = "not stored" if run_id is None else f"stored as run {run_id}: draftproof runs show {run_id}{store}"
        say(f"\nStopped after {len(generation.tokens)} tokens; {kept}")
        return
    summarise(generation, decoder)
    if run_id is not None:
        say(f"Every round is a verdict of run {run_id}: draftproof runs show {run_id}{store}")
