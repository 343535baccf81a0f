"""Which rule a row was really judged by: what records and verdicts name."""

from __future__ import annotations

from draftproof.drafting.draft import Law
from draftproof.drafting.rule import Rule
from draftproof.drafting.rules.auto import AutoRule, rule_for
from draftproof.drafting.sampling import Sampling


def applied(rule: Rule, law: Law, sampling: Sampling) -> tuple[str, bool]:
    """Name of the rule, and whether it is lossless.

    Rows of temperature 0 follow the arg-max under every rule. Lossless rules judge drafts without a q by the
    target's own draw; `auto` picks by the law.
    """
    if sampling.greedy:
        return "greedy", True
    if isinstance(rule, AutoRule):
        rule = rule_for(law)
    if law == "match" and rule.spec.lossless:
        return "match", True
    return rule.spec.name, rule.spec.lossless
