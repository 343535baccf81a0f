"""Names of drafters, and how a name with arguments becomes one.

Arguments are plain values, so that a command line can give them and a record can keep them: models, heads and files
are named by where they lie. Nothing is imported before a drafter is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from draftproof.drafting.part_arguments import Listing, make_part
from draftproof.errors import UsageError

if TYPE_CHECKING:
    from draftproof.drafting.drafter import Drafter

_HERE = "draftproof.drafting.drafters"


def _suffix(history: str | None = None, **settings: Any) -> Drafter:
    """`history`: a file that `History.save` wrote; without it, an empty history is begun."""
    from draftproof.drafting.drafters.history import History
    from draftproof.drafting.drafters.suffix import Suffix

    return Suffix(None if history is None else History.load(history), **settings)


def _trigram(table: str | None = None, **settings: Any) -> Drafter:
    """`table`: a file that `TrigramTable.save` wrote."""
    from draftproof.drafting.drafters.trigram import Trigram
    from draftproof.drafting.drafters.trigram_table import TrigramTable

    return Trigram(None if table is None else TrigramTable.load(table), **settings)


def _small_lm(
    model: str,
    backend: Literal["auto", "lean", "transformers"] = "auto",
    models_folder: Path | None = None,
    **settings: Any,
) -> Drafter:
    """`model`: whatever `load_model` takes."""
    from draftproof.drafting.drafters.small_lm import SmallLM
    from draftproof.drafting.models.load import load_model

    loaded = load_model(model, backend=backend, models_folder=models_folder)
    return SmallLM(loaded.model, vocabulary=loaded.vocabulary, **settings)


def _tokens_of_both(
    model: str,
    backend: Literal["auto", "lean", "transformers"] = "auto",
    models_folder: Path | None = None,
    **settings: Any,
) -> Drafter:
    """`model`: whatever `load_model` takes; its tokenizer may be any."""
    from draftproof.drafting.drafters.cross_vocab_tokens import TokenIntersection
    from draftproof.drafting.models.load import load_model

    loaded = load_model(model, backend=backend, models_folder=models_folder)
    return TokenIntersection(loaded.model, loaded.vocabulary, **settings)


def _through_text(
    model: str,
    backend: Literal["auto", "lean", "transformers"] = "auto",
    models_folder: Path | None = None,
    **settings: Any,
) -> Drafter:
    """`model`: whatever `load_model` takes; its tokenizer may be any."""
    from draftproof.drafting.drafters.cross_vocab_text import StringMatch
    from draftproof.drafting.models.load import load_model

    loaded = load_model(model, backend=backend, models_folder=models_folder)
    return StringMatch(loaded.model, loaded.vocabulary, **settings)


def _early_exit(
    exit_layer: int | None = None,
    adapter: str | None = None,
    candidates: str | int | Sequence[int] | None = None,
    **settings: Any,
) -> Drafter:
    """`adapter`: a folder with a trained exit adapter, which knows its layer. `candidates`: exits for the policy `del`,
    joined by +, as in 6+10+14."""
    from draftproof.drafting.drafters.early_exit import EarlyExit
    from draftproof.drafting.drafters.exit_adapter import ExitAdapter

    adapters = () if adapter is None else (ExitAdapter.load(Path(adapter)),)
    layer = exit_layer if exit_layer is not None or not adapters else adapters[0].config.exit_layer
    if layer is None:
        raise UsageError(
            "Drafter 'early-exit' needs exit_layer, how many of the target's layers draft, or a trained adapter.",
            remedy="Write early-exit:exit_layer=10, or train one with draftproof train exit-adapter and write "
            "early-exit:adapter=FOLDER.",
        )
    return EarlyExit(layer, adapters=adapters, candidates=_layers(candidates), **settings)


def _layers(candidates: str | int | Sequence[int] | None) -> tuple[int, ...]:
    if candidates is None or isinstance(candidates, int):
        return () if candidates is None else (candidates,)
    if not isinstance(candidates, str):
        return tuple(candidates)
    words = candidates.split("+")
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(
            f"Drafter 'early-exit': candidates is {candidates!r}, and numbers of layers joined by + are expected.",
            remedy="Write it as in early-exit:exit_layer=10,candidates=6+10+14.",
        )
    return tuple(map(int, words))


def _kangaroo(adapter: str, **settings: Any) -> Drafter:
    """`adapter`: a folder with a trained Kangaroo adapter."""
    from draftproof.drafting.drafters.kangaroo import Kangaroo
    from draftproof.drafting.drafters.kangaroo_adapter import KangarooAdapter

    return Kangaroo(KangarooAdapter.load(Path(adapter)), **settings)


def _heads(kind: str) -> Callable[..., Drafter]:
    def make(heads: str, **settings: Any) -> Drafter:
        """`heads`: a folder with trained draft heads."""
        from draftproof.drafting.drafters.head_models import load_heads
        from draftproof.drafting.drafters.heads import HeadsDrafter

        loaded, record = load_heads(Path(heads))
        if loaded.config.kind != kind:
            raise UsageError(
                f"The heads in {heads} are of the kind {loaded.config.kind!r}, not {kind!r}.",
                remedy=f"Ask for the drafter {loaded.config.kind!r}.",
            )
        return HeadsDrafter(loaded, record, **settings)

    return make


def _hybrid(
    drafters: str = "suffix+input-copy",
    mode: Literal["merge", "arbitrate"] = "merge",
    models_folder: Path | None = None,
    **settings: Any,
) -> Drafter:
    """`drafters`: names joined by +, the cheapest first. A setting for one of them begins with its name and a dot,
    as in `small-lm.model`; `max_nodes` is the hybrid's own."""
    from draftproof.drafting.drafters.hybrid import Hybrid

    names = [name.strip() for name in drafters.split("+")]
    of: dict[str, dict[str, Any]] = {name: {} for name in names}
    own: dict[str, Any] = {}
    for setting, value in settings.items():
        name, dot, argument = setting.partition(".")
        if not dot:
            own[setting] = value
        elif name in of:
            of[name][argument] = value
        else:
            raise UsageError(f"Drafter 'hybrid': {setting} is for a drafter that is not among {', '.join(names)}.")
    made = [create_drafter(name, models_folder, **of[name]) for name in names]
    return Hybrid([child for child in made if child is not None], mode=mode, **own)


def _model(name: str) -> dict[str, str]:
    return {"model": f"Name a folder, .gguf file, hub id or fetched model, as in {name}:model=FOLDER."}


def _trained(kind: str) -> dict[str, str]:
    return {"heads": f"Train them with draftproof train heads and name their folder, as in {kind}:heads=FOLDER."}


LISTINGS = (
    Listing("none", "Plain decoding.", lambda: None),
    Listing(
        "prompt-lookup", "Copies what followed the newest tokens earlier on.", f"{_HERE}.prompt_lookup:PromptLookup"
    ),
    Listing("ngram", "N-gram frequencies of the text, looked up token by token (ANPD).", f"{_HERE}.ngram:NGram"),
    Listing(
        "trigram",
        "A corpus's trigrams, nudged by the text, as a tree (ADED).",
        _trigram,
        behind=f"{_HERE}.trigram:Trigram",
    ),
    Listing(
        "suffix",
        "Matches of any length in the text and in earlier outputs, mixed into a tree.",
        _suffix,
        behind=f"{_HERE}.suffix:Suffix",
    ),
    Listing("input-copy", "Walks through the prompt, for outputs that repeat it.", f"{_HERE}.input_copy:InputCopy"),
    Listing(
        "small-lm",
        "A small draft model of the same vocabulary.",
        _small_lm,
        behind=f"{_HERE}.small_lm:SmallLM",
        remedies=_model("small-lm"),
    ),
    Listing(
        "token-intersection",
        "A draft model of another vocabulary: tokens that both have (TLI).",
        _tokens_of_both,
        behind=f"{_HERE}.cross_vocab_tokens:TokenIntersection",
        remedies=_model("token-intersection"),
    ),
    Listing(
        "string-match",
        "A draft model of another vocabulary: through text.",
        _through_text,
        behind=f"{_HERE}.cross_vocab_text:StringMatch",
        remedies=_model("string-match"),
    ),
    Listing(
        "early-exit",
        "The target's lower layers, read by its head or a trained adapter.",
        _early_exit,
        behind=f"{_HERE}.early_exit:EarlyExit",
    ),
    Listing(
        "kangaroo",
        "The target's lower layers and a trained attention adapter.",
        _kangaroo,
        behind=f"{_HERE}.kangaroo:Kangaroo",
        remedies={
            "adapter": "Train one with draftproof train kangaroo and name its folder, as in kangaroo:adapter=FOLDER."
        },
    ),
    Listing(
        "medusa",
        "Trained heads that predict several tokens ahead.",
        _heads("medusa"),
        behind=f"{_HERE}.heads:HeadsDrafter",
        remedies=_trained("medusa"),
    ),
    Listing(
        "hydra",
        "Trained heads, each given the token before it.",
        _heads("hydra"),
        behind=f"{_HERE}.heads:HeadsDrafter",
        remedies=_trained("hydra"),
    ),
    Listing(
        "hybrid",
        "Several drafters: merged into one tree, or the most promising each round.",
        _hybrid,
        behind=f"{_HERE}.hybrid:Hybrid",
        nested=True,
    ),
)


def create_drafter(name: str, models_folder: Path | None = None, /, **arguments: Any) -> Drafter | None:
    """The drafter called `name`, or None for `none`. Models that it names are looked for as `load_model` does.

    Raises UnknownNameError, and UsageError for arguments that it does not take.
    """
    made: Drafter | None = make_part("drafter", LISTINGS, name, arguments, filled_in={"models_folder": models_folder})
    return made
