"""Sections of benchmarks/README.md about reasoning step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from readme_table import Line, table

from draftproof.plots.chart import Axis, Point, Series, chart

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "routing.svg"
NAMES = {
    "rsd": "RSD (process reward)",
    "rsd-truth": "RSD (exact truth)",
    "router": "router (fitted to exact truth)",
    "router-of-prm": "router (fitted to process rewards)",
    "glimpse": "GlimpRouter",
    "oracle": "oracle (exact truth)",
    "draft-only": "draft alone",
    "target-only": "target alone",
}


def routing(lines: list[Line]) -> Iterator[str]:
    yield "## Routing between the pocket models (`bench_routing.py`)\n"
    settings = _settings(lines)
    compared = [line for line in lines if line.get("comparison")]
    said = compared[0] if compared else {}
    points = {name: line for line in compared for name in ("router", "rsd", "glimpse") if name in line}
    alone = next(line for line in settings if line["policy"] == "target-only")
    yield (
        f"{alone['problems']} held-out problems, greedy, through the real graphs; truth is the problems' plans. "
        "Brackets are 95 % intervals over problems. Acceptance is the share of steps that the draft model wrote; "
        "target tokens are the target's a problem, kept or not; a wasted escalation is a step that was taken from the "
        "draft model although the target did not better it. RSD decides by a process reward model that was trained on "
        "planted mistakes; the first router was fitted to rows that the problems' plans scored, the second to rows "
        "that the same reward model scored. An RSD that knew the truth would be better than any router, and than the "
        "target: it keeps what is right and only that. The problems' hard steps open with other words than the easy "
        "ones, which is what GlimpRouter looks at: elsewhere it may see less. How long the draft model was trained was "
        "chosen among three lengths, with GlimpRouter's figures on half of these problems in view.\n"
    )
    yield from table(
        ("policy", "threshold", "accuracy", "acceptance", "target tokens", "of target alone", "wasted escalations"),
        (
            (
                NAMES[line["policy"]],
                "" if line["policy"].endswith("-only") else f"{line['threshold']:g}",
                within(line["accuracy"], line["accuracy_interval"]),
                f"{line['acceptance']:.1%}",
                f"{line['target_tokens']:.1f}",
                f"{line['target_tokens'] / alone['target_tokens']:.0%}",
                _waste(line),
            )
            for line in settings
        ),
    )
    yield ""
    yield "![Accuracy over acceptance for each way to route](../docs/pictures/routing.svg)\n"
    if said:
        yield (
            "Operating points: thresholds chosen on other problems, as the most accurate that spend at most half of "
            "the target's tokens (GlimpRouter: 60 %).\n"
        )
        yield from table(
            (
                *("policy", "threshold", "chosen on", "measured on", "accuracy less target alone"),
                *("target tokens of target alone", "acceptance"),
            ),
            (
                (
                    NAMES[name],
                    f"{line[name]['threshold']:g}",
                    f"{line['chosen_on']:,}",
                    f"{line['held_out']:,}",
                    within(line[name]["accuracy_less_target_only"], line[name]["interval"], signed=True),
                    within(line[name]["target_tokens_share"], line[name]["share_interval"]),
                    f"{line[name]['acceptance']:.1%}",
                )
                for name, line in points.items()
            ),
        )
        if "gap_closed" in said:
            yield ""
            least, least_within = said["least_lead_of_router_over_rsd"], said["least_lead_of_router_over_rsd_interval"]
            yield (
                f"Between RSD's curve and the oracle's the router closes "
                f"**{within(said['gap_closed'], said['gap_closed_interval'])}** of the area. Where it is least above "
                f"RSD (at {said['least_lead_at_acceptance']:.0%} acceptance) it leads by "
                f"{within(least, least_within, True)}. At equal acceptance its rate of wasted escalations is RSD's "
                f"{within(said['waste_of_router_less_rsd'], said['waste_of_router_less_rsd_interval'], True)}."
            )
        if "gap_closed_by_router_of_prm" in said:
            of_prm, name = said["gap_closed_by_router_of_prm"], "least_lead_of_router_of_prm_over_rsd"
            yield ""
            yield (
                "The router that knows no more of truth than RSD's reward model closes "
                f"{within(of_prm, said['gap_closed_by_router_of_prm_interval'])} of that area; where it is least above "
                f"RSD, its lead is {within(said[name], said[f'{name}_interval'], True)}."
            )


_WITHOUT_WASTE = ("draft-only", "target-only", "glimpse")
"""Policies that escalate no step that the draft model has written."""


def _waste(line: Line) -> str:
    """Empty where nothing was escalated: there is no rate of nothing."""
    rate = None if line["policy"] in _WITHOUT_WASTE else line["wasted_escalations"]
    return "" if rate is None else f"{rate:.1%}"


def _settings(lines: Sequence[Line]) -> list[Line]:
    """Those measured on the problems that all policies were measured on, which come first."""
    found = [line for line in lines if "accuracy_interval" in line and "policy" in line]
    return [line for line in found if line["problems"] == found[0]["problems"]]


def routing_picture(lines: Sequence[Line]) -> str:
    """Accuracy over acceptance, a line for each policy."""
    settings = _settings(lines)
    series = []
    for name, words in NAMES.items():
        points = sorted(
            (
                Point(
                    line["acceptance"], line["accuracy"], *line["accuracy_interval"],
                    says=f"{words} at {line['threshold']:g}: {line['target_tokens']:.1f} target tokens",
                )
                for line in settings
                if line["policy"] == name
            ),
            key=lambda point: point.x,
        )  # fmt: skip
        if points:
            series.append(Series(words, tuple(points), level=name == "target-only"))
    return chart(
        "Accuracy of routed solutions",
        Axis("steps that the draft model wrote", within=(0.0, 1.0), percent=True),
        Axis("right answers", percent=True),
        series,
        note=f"{settings[0]['problems']} held-out pocket problems, 95 % intervals",
    )


def step_loop(lines: list[Line]) -> Iterator[str]:
    yield "## Step-level graphs beside a plain transformers loop (`bench_step_loop.py`)\n"
    timed = [line for line in lines if "speedup" in line]
    yield (
        f"GlimpRouter over the pocket models, greedy, {timed[0]['problems']} problems, {timed[0]['threads']} threads; "
        "the loops route the same way. Medians, in turns.\n"
    )
    yield from table(
        ("problems at once", "peer", "peer, s", "draftproof, s", "times as fast", "same text"),
        (
            (
                line["batch"],
                peer.replace("_", ", "),
                f"{line['seconds'][peer]:.2f}",
                f"{line['seconds']['draftproof']:.2f}",
                f"**{speedup:.1f}**",
                f"{line['same_text'][peer]:.0%}",
            )
            for line in timed
            for peer, speedup in line["speedup"].items()
        ),
    )
    for line in lines:
        if "overhead_ms_per_node" in line:
            yield ""
            yield f"A node costs {line['overhead_ms_per_node']:.2f} ms more than one of a bare LangGraph graph."


def uncertainty(lines: list[Line]) -> Iterator[str]:
    yield "## Uncertainty heads on the pocket target (`bench_uncertainty.py`)\n"
    for temperature in dict.fromkeys(line["temperature"] for line in lines):
        yield from _uncertainty([line for line in lines if line["temperature"] == temperature], temperature)
        yield ""


def _uncertainty(lines: list[Line], temperature: float) -> Iterator[str]:
    rows = [line for line in lines if "pr_auc_low" in line]
    yield (
        f"Solutions written at temperature {temperature:g}; {rows[0]['steps']:,} steps of held-out problems, "
        f"{rows[0]['base_rate']:.1%} wrong, up to each solution's first wrong one. Guessing has a PR-AUC of that "
        "share.\n"
    )
    yield from table(
        ("judge", "PR-AUC of wrong steps", "ROC-AUC", "calibration error"),
        (
            (
                line["name"],
                within(line["pr_auc"], [line["pr_auc_low"], line["pr_auc_high"]], share=False),
                f"{line['roc_auc']:.3f}",
                f"{line['ece']:.3f}",
            )
            for line in rows
        ),
    )
    yield ""
    for line in lines:
        if "lead_of" in line:
            lead = within(line["pr_auc"], line["interval"], signed=True, share=False)
            yield f"- {line['lead_of']} over {line['over']}: {lead}"
        elif "silent" in line:
            yield f"- {line['silent']} gave a score to none of the steps"
        elif "head_parameters" in line:
            yield (
                f"- parameters: {line['head_parameters']:,} of the head, {line['prm_parameters']:,} of the reward "
                f"model ({line['share']:.1%})"
            )
        elif "latency" in line:
            yield f"- {line['latency']} writing, {line['together']} at once: the head adds {line['added']:+.0%}"


def within(value: float | None, interval: Sequence[float], signed: bool = False, share: bool = True) -> str:
    """A figure with its interval."""
    if value is None:
        return "-"
    form = ("+.1%" if share else "+.3f") if signed else (".1%" if share else ".3f")
    return f"{value:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"
