"""The formats: their names, what recognises a record of each, and how importers are made.

A format's options follow its name as in `prmbench:process=both` or `chat:reasoning=only,segmentation=sentence`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from draftproof.errors import UnknownNameError, UsageError
from draftproof.importers import (
    big_bench_mistake,
    chat,
    gsm8k,
    inspect_log,
    latebench,
    lm_eval,
    mr_gsm8k,
    plain,
    prm800k,
    prmbench,
    processbench,
    trl,
)
from draftproof.importers.record import Importer, Record


@dataclass(frozen=True)
class Format:
    """What is known of a format before a file of it is read."""

    name: str
    summary: str
    matches: Callable[[Record], bool]
    make: Callable[..., Importer]
    non_finite: bool = False
    """Whether its writers put bare NaN into their JSON; it is read as null there, and refused everywhere else."""
    includes: tuple[str, ...] = ("plain",)
    """Formats whose marks its records bear too, and which it therefore wins over."""

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(field.name for field in fields(self.make) if field.init)  # type: ignore[arg-type]

    def importer(self, options: dict[str, str]) -> Importer:
        """A fresh importer, for one file."""
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            known = f"Its options are {', '.join(self.options)}." if self.options else "It has no options."
            raise UsageError(f"The format {self.name} has no option {unknown[0]!r}.", remedy=known)
        return self.make(**options)


# The order of the list is that of the help text; detection asks all of them.
_FORMATS = (
    Format("plain", "JSON Lines with `problem`, and `steps` or `response`", plain.matches, plain.PlainImporter),
    Format("gsm8k", "GSM8K questions with worked answers (`#### 18`)", gsm8k.matches, gsm8k.Gsm8kImporter),
    Format(
        "gsm8k-models",
        "GSM8K's model solutions, several models a row",
        gsm8k.matches_model_solutions,
        gsm8k.Gsm8kModelSolutionsImporter,
    ),
    Format(
        "processbench",
        "ProcessBench: steps with the first wrong one",
        processbench.matches,
        processbench.ProcessBenchImporter,
    ),
    Format("prm800k", "PRM800K: nested step ratings", prm800k.matches, prm800k.Prm800kImporter),
    Format("latebench", "LateBench: PRM800K re-shaped", latebench.matches, latebench.LateBenchImporter),
    Format("mr-gsm8k", "MR-GSM8K: steps with the first wrong one and why", mr_gsm8k.matches, mr_gsm8k.MrGsm8kImporter),
    Format(
        "big-bench-mistake",
        "BIG-Bench-Mistake: steps with the first mistake",
        big_bench_mistake.matches,
        big_bench_mistake.BigBenchMistakeImporter,
    ),
    Format("prmbench", "PRMBench: solutions with errors written in", prmbench.matches, prmbench.PrmBenchImporter),
    Format("lm-eval", "lm-evaluation-harness sample logs", lm_eval.matches, lm_eval.LmEvalImporter, non_finite=True),
    Format(
        "inspect",
        "inspect_ai logs, .eval or .json",
        inspect_log.matches,
        inspect_log.InspectImporter,
        non_finite=True,
        includes=("plain", "chat"),
    ),
    Format("chat", "chat messages, completions, batch output", chat.matches, chat.ChatImporter),
    Format("trl", "TRL stepwise supervision", trl.matches, trl.TrlImporter),
)
_BY_NAME = {known.name: known for known in _FORMATS}


def formats() -> tuple[Format, ...]:
    """Every format, in the order of the help text."""
    return _FORMATS


def parse_format(spec: str) -> tuple[Format | None, dict[str, str]]:
    """The format and options of a `--format` argument; no format for `auto`."""
    name, _, given = spec.partition(":")
    options: dict[str, str] = {}
    for pair in filter(None, given.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or key in options:
            raise UsageError(
                f"Cannot read the option {pair!r} of the format {name}.",
                remedy="Options are written name:key=value,key=value.",
            )
        options[key] = value
    if name == "auto":
        if options:
            raise UsageError("The format auto takes no options.", remedy="Name the format to give it options.")
        return None, options
    if name not in _BY_NAME:
        raise UnknownNameError(
            f"There is no format {name!r}.", remedy=f"Known are auto, {', '.join(known.name for known in _FORMATS)}."
        )
    _BY_NAME[name].importer(options)
    return _BY_NAME[name], options


def detect(record: Record) -> Format | None:
    """The format whose marks the record bears; none when there is no such format."""
    found = [known for known in _FORMATS if known.matches(record)]
    included = {name for known in found for name in known.includes if known.name != name}
    found = [known for known in found if known.name not in included]
    if len(found) > 1:
        names = [known.name for known in found]
        raise UsageError(
            f"A record could be {', '.join(names[:-1])} or {names[-1]}.",
            remedy=f"Say which: --format {names[0]}",
        )
    return found[0] if found else None
