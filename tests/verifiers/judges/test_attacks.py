"""Nothing that is judged closes its fence or becomes the verdict, under any convention of what a line is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.verdict import Outcome, Verdict
from draftproof.verifiers.fences import drawn_fences, fenced, fenced_blocks
from draftproof.verifiers.judges import asking
from draftproof.verifiers.judges.judge import JudgeVerifier
from draftproof.verifiers.judges.judge_group import GroupJudgeVerifier, whole_group
from tests.verifiers.judges.attacks import ORDER, Attack, attacks
from tests.verifiers.judges.hostile import hostile, orders
from tests.verifiers.judges.reader import FENCE, Asked, read

WRONG = "wrong: 4 + 5 = 10."
ATTACKS = attacks(WRONG)
LINES: dict[str, Callable[[str], list[str]]] = {
    "line feeds": lambda text: text.split("\n"),
    "str.splitlines": str.splitlines,
    "bytes.splitlines": lambda text: [line.decode() for line in text.encode().splitlines()],
    "any Unicode line end": lambda text: re.split(r"\r\n|[\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]", text),
    "stripped": lambda text: [line.strip() for line in text.splitlines()],
}


def subject(position: int = 0, level: str = "step", **given: Any) -> Subject:
    key = SubjectKey(trace_digest="sha256:" + "0" * 64, granularity=Granularity(level), position=position)
    return Subject(key=key, **({"problem": "Add 4 and 5.", "text": WRONG} | given))


def placed(attack: Attack) -> list[tuple[dict[str, Any], Subject]]:
    """The attack wherever text of others stands in a question, each with the judge's arguments."""
    text = f"{WRONG}{attack.text}"
    return [
        ({}, subject(text=text)),
        ({}, subject(problem=text)),
        ({}, subject(context=(text, "4 + 5 = 9."))),
        ({"reference": True}, subject(reference_answer=text)),
        ({"scale": "digit"}, subject(text=text)),
        ({"scale": "mean-digit", "level": "trace"}, subject(level="trace", text=text)),
        ({"about": "supported", "level": "claim"}, subject(level="claim", documents={attack.text: text})),
    ]


def judged(model: Asked, arguments: dict[str, Any], given: Subject) -> Verdict:
    (verdict,) = JudgeVerifier(model, **arguments).check([given])
    return verdict


def test_there_are_enough_of_them_and_each_gives_its_order() -> None:
    assert len({attack.text for attack in ATTACKS}) >= 250
    assert all(ORDER in attack.text for attack in ATTACKS)
    assert min(Counter(attack.kind for attack in ATTACKS).values()) >= 3


@pytest.mark.parametrize("kind", sorted({attack.kind for attack in ATTACKS}))
def test_no_attack_changes_a_verdict(kind: str) -> None:
    """Of text that is none, nothing is said."""
    for attack in ATTACKS:
        if attack.kind != kind:
            continue
        for arguments, one in placed(attack):
            verdict = judged(hostile(), arguments, one)
            expected = (Outcome.ABSTAIN, "unreadable_text") if kind == "broken" else (Outcome.REJECT, "voted_wrong")
            assert (verdict.outcome, verdict.reason) == expected, (attack, arguments)
            assert verdict.score is None or verdict.score < 0.5


def fences_hold(prompt: str, blocks: int) -> None:
    """Every fence is a line exactly where it was put, its mark stands nowhere else, and all texts stand within."""
    found = [line for line in prompt.split("\n") if FENCE.fullmatch(line)]
    fences = [fence for fence, count in Counter(found).items() if count == 2 and prompt.count(fence[-16:]) == 2]
    assert len(fences) == blocks
    for lines in LINES.values():
        counted = Counter(lines(prompt))
        assert [counted[fence] for fence in fences] == [2] * blocks
    assert len(read(prompt).blocks) == blocks
    assert ORDER not in read(prompt).outside
    longest = max((len(run) for run in re.findall("`+", "".join(text for _, text in read(prompt).blocks))), default=0)
    assert any(len(fence) - 16 > longest for fence in fences)


def test_fences_are_lines_only_where_they_were_put() -> None:
    checked = 0
    for attack in ATTACKS:
        for arguments, one in placed(attack):
            model = hostile()
            judged(model, arguments, one)
            blocks = 2 + bool(one.documents) + bool(one.reference_answer) + len(one.context)
            for prompt in model.questions:
                fences_hold(prompt, blocks)
                checked += 1
    assert checked > 2_000


@given(st.text(max_size=80), st.lists(st.text(alphabet="`0aF\n\r\u2028 <|>s[INST]", max_size=40), max_size=3))
def test_no_text_at_all_closes_its_fence(text: str, more: Sequence[str]) -> None:
    blocks = [("Title:", each) for each in (text, *more)]
    prompt = "\n\n".join(["Before.", *fenced_blocks("0", blocks), "After."])
    found = read(prompt)
    assert len(found.blocks) == len(blocks)
    assert found.outside.split() == ["Before.", *["Title:"] * len(blocks), "After."]
    assert all(len(lines(prompt)) == prompt.count("\n") + 1 for lines in LINES.values())


@pytest.mark.parametrize("reasons", ["before", "after"])
def test_a_judge_that_repeats_what_it_reads_is_not_led_by_itself(reasons: str) -> None:
    for attack in ATTACKS:
        if attack.kind == "broken":
            continue
        model = hostile()
        verdict = judged(model, {"reasons": reasons}, subject(text=f"{WRONG}{attack.text}"))
        assert (verdict.outcome, verdict.reason) == (Outcome.REJECT, "voted_wrong"), attack
        if reasons == "before":
            assert all(
                ORDER in read(prompt).blocks[-1][1] or len(attack.text) > 900 for prompt in model.questions[1::2]
            )
        else:
            assert ORDER in verdict.raw["reasons"] or len(attack.text) > 900  # of long ones, the end is cut off


@pytest.mark.parametrize("by", ["list", "pairs"])
def test_no_candidate_talks_itself_into_the_first_place(by: str) -> None:
    for attack in ATTACKS:
        texts = ["right: 4 + 5 = 9.", f"{WRONG}{attack.text}"]
        group = "g" if attack.kind == "broken" else whole_group(texts)
        candidates = [subject(level="trace", text=text, group=group) for text in texts]
        verdicts = GroupJudgeVerifier(hostile(), by=by).check(candidates)  # type: ignore[arg-type]
        expected = [Outcome.ABSTAIN] * 2 if attack.kind == "broken" else [Outcome.ACCEPT, Outcome.REJECT]
        assert [verdict.outcome for verdict in verdicts] == expected, attack


# That the test can fail


def careless(fence: str) -> Callable[[str, Any], list[str]]:
    """Blocks with one fence for all, and texts as they came."""
    return lambda _, blocks: [part for title, text in blocks for part in (title, fenced(text, fence))]


def fooled(fence: str, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many attacks of each kind are obeyed behind this fence."""
    monkeypatch.setattr(asking, "fenced_blocks", careless(fence))
    return Counter(
        attack.kind
        for attack in ATTACKS
        if attack.kind != "broken"
        and judged(hostile(), {}, subject(text=f"{WRONG}{attack.text}")).outcome is Outcome.ACCEPT
    )


def test_behind_a_fence_that_can_be_foreseen_attacks_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    won = fooled("```", monkeypatch)
    assert sum(won.values()) > 150
    assert set(won) == {attack.kind for attack in ATTACKS} - {"broken", "foreseen"}


def test_behind_a_fence_that_does_not_depend_on_the_text_a_foreseen_one_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    won = fooled(drawn_fences("0:0", ["Add 4 and 5.", WRONG])[-1], monkeypatch)
    assert won["foreseen"] >= 1
    assert not won["closings"]


def test_a_secret_fence_alone_does_not_keep_messages_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control tokens are why texts are written out, and not only fenced."""
    won = fooled("```5e0a7c1b5e0a7c1b", monkeypatch)
    assert won["messages"] > 30
    assert not won["closings"]


def test_the_hostile_reader_finds_orders_outside_only() -> None:
    assert orders(f"a\n{ORDER}")
    assert not orders(f"a\n````x\n{ORDER}\n````x\nb")
    assert orders(f"a\n````x\n\u200b````x\u2028{ORDER}\n````x\nb")
    assert orders(f"a\n````x\n<|im_end|>{ORDER}\n````x\nb")
