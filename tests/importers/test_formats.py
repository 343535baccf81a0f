"""Each format on rows of its own: what every field becomes, and which base its step numbers have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from draftproof.errors import UnknownNameError, UsageError
from draftproof.importers import formats, read_traces
from draftproof.importers.plain import to_record
from draftproof.importers.registry import detect
from draftproof.trace import StepLabel

C, I, U = StepLabel.CORRECT, StepLabel.INCORRECT, StepLabel.UNKNOWN  # noqa: E741


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def texts(trace):
    return [step.text for step in trace.steps]


@pytest.mark.parametrize(
    ("name", "format", "rows", "traces"),
    [
        ("gsm8k.jsonl", "gsm8k", 3, 3),
        ("gsm8k_models.jsonl", "gsm8k-models", 4, 16),
        ("processbench.jsonl", "processbench", 4, 4),
        ("prm800k.jsonl", "prm800k", 4, 4),
        ("latebench.jsonl", "latebench", 2, 2),
        ("mr_gsm8k.jsonl", "mr-gsm8k", 4, 4),
        ("big_bench_mistake.jsonl", "big-bench-mistake", 4, 4),
        ("prmbench.jsonl", "prmbench", 3, 3),
        ("lm_eval.jsonl", "lm-eval", 4, 2),
        ("inspect_zstd.eval", "inspect", 3, 3),
        ("inspect_unscored.json", "inspect", 3, 3),
        ("chat.jsonl", "chat", 6, 7),
        ("trl.jsonl", "trl", 2, 2),
    ],
)
def test_a_file_is_recognised_and_read_whole(fixture_file, name, format, rows, traces):
    found = fixture_file(name)
    assert found.rejects == []
    assert {trace.source.format for trace in found.traces} == {format}
    assert (found.progress.lines, len(found.traces)) == (rows, traces)
    assert found.progress.bytes_read == found.progress.bytes_total
    ids = [trace.id for trace in found.traces]
    assert len(set(ids)) == len(ids)
    assert fixture_file(name, format).traces == found.traces, "naming the format must change nothing"
    assert [trace.id for trace in fixture_file(name).traces] == ids, "ids must not change between imports"


def test_gsm8k_answers_leave_the_steps_and_annotations_stay(fixture_file):
    first, _second, socratic = fixture_file("gsm8k.jsonl").traces
    assert texts(first) == [
        "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n",
        "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n",
    ]
    assert (first.final_answer, first.reference_answer, first.segmentation) == ("72", "72", "line@1")
    assert texts(socratic)[0].startswith("How many eggs does Janet sell? ** Janet sells")


def test_gsm8k_model_solutions_give_a_trace_for_each_model(fixture_file):
    traces = fixture_file("gsm8k_models.jsonl").traces
    assert [trace.generator for trace in traces[:4]] == [
        "6b_finetuning",
        "6b_verification",
        "175b_finetuning",
        "175b_verification",
    ]
    row, _, model = traces[0].id.partition("/")
    assert model == "6b_finetuning"
    assert all(trace.id.startswith(f"{row}/") for trace in traces[:4])
    assert [(trace.final_answer, trace.answer_correct) for trace in traces[:4]] == [
        ("26", False),
        ("224", False),
        ("4", False),
        ("18", True),
    ]
    assert {trace.reference_answer for trace in traces[:4]} == {"18"}
    assert (
        texts(traces[0])[-1] == "She has 13 ducks eggs and she sells 2 each day so she makes 13 * 2 = $<<13*2=26>>26\n"
    )
    assert traces[4].final_answer == "90,000"


def test_a_model_solution_without_an_answer_line_keeps_its_last_step(fixture_file):
    cut = next(trace for trace in fixture_file("gsm8k_models.jsonl").traces if trace.final_answer is None)
    assert texts(cut)[-1].endswith("<<41.472+8.")


def test_processbench_counts_from_0_and_claims_nothing_after_the_first_error(fixture_file):
    found = {trace.id: trace for trace in fixture_file("processbench.jsonl").traces}
    assert found["gsm8k-1"].step_labels == (C, I, U, U, U, U, U)
    assert found["gsm8k-200"].step_labels == (C,) * 8
    assert found["gsm8k-9"].step_labels == (I, U, U, U)
    wrong_step_right_answer = found["olympiadbench-500"]
    assert (wrong_step_right_answer.first_error, wrong_step_right_answer.answer_correct) == (3, True)
    # "2 math books and 2 science books" is the misreading that the label means.
    assert "Cindy has 2 math books" in texts(found["gsm8k-1"])[1]
    assert found["gsm8k-1"].generator == "Qwen2.5-Math-7B-Instruct"


def test_mr_gsm8k_counts_from_1(fixture_file):
    first, program, right_answer, judged = fixture_file("mr_gsm8k.jsonl").traces
    assert first.step_labels == (C, I, U, U)
    assert "<<16*4=64>>" in texts(first)[1], "the human reason names this multiplication"
    assert (first.final_answer, first.reference_answer, first.answer_correct) == ("60", "17", False)
    assert program.step_labels == (C, C, C, I, U, U)
    assert program.meta["question_type"] == "POT"
    assert (right_answer.answer_correct, right_answer.first_error) == (True, 4)
    assert "wizardmath_70B_eval_output" in judged.meta


def test_mr_gsm8k_reads_solutions_that_are_right(imported):
    row = {
        "uuid": "u",
        "question": "q",
        "ground_truth_answer": 4,
        "model_output_steps": ["2 + 2", "#### 4"],
        "model_output_answer_correctness": "correct",
        "model_output_solution_correctness": "correct",
        "model_output_solution_first_error_step": "N/A",
    }
    bad = {**row, "model_output_solution_correctness": "wrong"}
    found = imported(lines(row, bad, {**bad, "model_output_solution_first_error_step": 0}))
    assert found.traces[0].step_labels == (C, C)
    assert found.codes == [(2, "wrong_value"), (3, "wrong_value")]


def test_big_bench_mistake_counts_from_0_and_null_is_no_mistake(fixture_file):
    none, early, late, with_blank = fixture_file("big_bench_mistake.jsonl").traces
    assert none.step_labels == (C,) * 10
    assert early.first_error == 1
    assert late.first_error == 4
    assert early.answer_correct is None
    blank = [index for index, step in enumerate(with_blank.steps) if not step.text.strip()]
    assert blank, "a blank step is kept, or every label after it would name the wrong step"
    assert with_blank.first_error == 16
    assert len(with_blank.steps) == 57


def test_prmbench_counts_from_1_and_has_a_twin(fixture_file):
    circular, beyond, clean = fixture_file("prmbench.jsonl").traces
    assert circular.step_labels == (C, I, U, U, U, U)
    assert "Assume the answer is" in texts(circular)[1]
    assert circular.meta["error_steps"] == [2, 3, 5]
    assert circular.id == "prm_test_p1_2/circular"
    assert (beyond.first_error, len(beyond.steps), beyond.meta["error_steps"]) == (51, 53, [52, 54])
    assert clean.step_labels == (C,) * 18
    assert clean.reference_answer == "40_9"
    both = fixture_file("prmbench.jsonl", "prmbench:process=both").traces
    assert [trace.id for trace in both[:2]] == ["prm_test_p1_2/circular", "prm_test_p1_2/circular/original"]
    assert both[1].step_labels == (C,) * 6
    assert fixture_file("prmbench.jsonl", "prmbench:process=original").traces == both[1::2]


def test_prmbench_claims_nothing_when_every_error_lies_beyond_the_last_step(imported):
    row = {
        "original_question": "q",
        "modified_question": "q",
        "original_process": ["a"],
        "modified_process": ["a", "b"],
        "error_steps": [3],
        "idx": "i",
    }
    found = imported(
        lines(row, {**row, "error_steps": [0]}, {**row, "error_steps": [True]}, {**row, "error_steps": "1"})
    )
    assert found.traces[0].step_labels == (U, U)
    assert found.codes == [(2, "wrong_value"), (3, "wrong_type"), (4, "wrong_type")]


def test_prm800k_follows_the_path_that_was_taken(fixture_file):
    human, found_error, gave_up, written = fixture_file("prm800k.jsonl").traces
    assert texts(human) == [
        "A minute has 60 seconds.",
        "Let us multiply.",
        "7.8 * 60 = 468.",
        "So it is 468.\n\n# Answer\n\n468",
    ]
    assert human.step_labels == (C, C, C, C)
    assert (human.final_answer, human.reference_answer) == ("468", "468")
    assert {"step": 0, "text": "A minute has 100 seconds.", "rating": -1} in human.meta["siblings"]
    assert (texts(found_error)[1], found_error.step_labels) == ("7.8 * 60 = 460.", (C, I))
    assert gave_up.step_labels == (U,)
    assert texts(written)[1] == "So it is 468."


def test_prm800k_options(fixture_file):
    assert fixture_file("prm800k.jsonl", "prm800k:neutral=incorrect").traces[0].step_labels == (C, I, U, U)
    assert fixture_file("prm800k.jsonl", "prm800k:neutral=unknown").traces[0].step_labels == (C, U, C, C)
    skipping = fixture_file("prm800k.jsonl", "prm800k:screening=skip")
    assert (skipping.progress.skipped, len(skipping.traces)) == (1, 3)


def test_latebench_ends_at_its_error_and_its_final_answer_is_the_right_one(fixture_file):
    first, _second = fixture_file("latebench.jsonl").traces
    assert first.step_labels == (C,) * 12 + (I,)
    assert first.first_error == first.meta["source"]["metadata"]["first_error_step"] - 1
    assert (first.final_answer, first.reference_answer) == ("(x - 2y^2)/y", r"\frac{123}{40}")


def test_lm_eval_counts_a_document_once_however_many_filters_there_are(fixture_file):
    found = fixture_file("lm_eval.jsonl")
    assert found.progress.skipped == 2
    assert [(trace.id, trace.final_answer, trace.answer_correct) for trace in found.traces] == [
        ("0", "72", True),
        ("1", "24", False),
    ]
    assert texts(found.traces[0])[0] == "In May she sold 48/2 = 24.\n\n"
    named = fixture_file("lm_eval.jsonl", "lm-eval:filter=flexible-extract")
    assert named.lines_read == [3, 4]
    assert [trace.id for trace in fixture_file("lm_eval.jsonl", "lm-eval:filter=all").traces][::2] == [
        "0/strict-match",
        "0/flexible-extract",
    ]


def test_lm_eval_repeats_are_traces_and_multiple_choice_is_no_solution(imported):
    row = {
        "doc_id": 7,
        "doc": {"n": 1},
        "target": "4",
        "arguments": [["What is 2 + 2?", {}]],
        "resps": [["It is 4.", "It is 5."]],
        "filtered_resps": ["4", "5"],
        "exact_match": 0.0,
    }
    found = imported(lines(row, {**row, "resps": [[["-1.5", "False"]], [["-0.2", "True"]]]}, {**row, "resps": [[]]}))
    assert [(trace.id, trace.final_answer, trace.answer_correct) for trace in found.traces] == [
        ("7/0", "4", None),
        ("7/1", "5", None),
    ]
    assert found.traces[0].problem == "What is 2 + 2?"
    assert found.codes == [(2, "no_solution"), (3, "no_solution")]


def test_inspect_reads_members_compressed_with_zstd(fixture_file):
    clips, ducks, total = fixture_file("inspect_zstd.eval").traces
    assert (clips.id, clips.final_answer, clips.answer_correct) == ("clips_epoch_1", "72", True)
    assert ducks.problem == "Ducks lay 16 eggs and 3 are eaten. How many are left?"
    assert texts(ducks) == [
        "Three eggs are eaten.\n\n",
        "So 16 - 3 = 13 are left.",
        "She has 13 eggs.\n\n",
        "ANSWER: 13",
    ]
    assert ducks.meta["reasoning_steps"] == 2
    assert (texts(total), total.answer_correct) == (["5 and 5.", "ANSWER: 11"], False)
    assert {trace.generator for trace in (clips, ducks, total)} == {"mockllm/model"}


def test_inspect_takes_nan_for_not_scored(fixture_file):
    found = fixture_file("inspect_unscored.json")
    assert b"NaN" in Path(found.traces[0].source.file).read_bytes()
    assert {trace.answer_correct for trace in found.traces} == {None}


def test_inspect_scorers_must_agree_unless_one_is_named(imported):
    sample = {
        "id": 1,
        "epoch": 2,
        "input": "q",
        "target": "4",
        "messages": [],
        "output": {"model": "m", "choices": [{"message": {"role": "assistant", "content": "attachment://h"}}]},
        "attachments": {"h": "It is 4."},
        "scores": {"match": {"value": "C", "answer": "4"}, "judge": {"value": 0, "answer": "4"}},
    }
    failed = {**sample, "output": {"model": "m", "choices": []}}
    log = json.dumps({"version": 2, "status": "success", "eval": {}, "samples": [sample, failed]}).encode()
    found = imported(log, "log.json")
    assert (found.traces[0].id, texts(found.traces[0]), found.traces[0].answer_correct) == (
        "1_epoch_2",
        ["It is 4."],
        None,
    )
    assert found.traces[0].final_answer == "4"
    assert found.codes == [(2, "no_solution")]
    assert imported(log, "log.json", "inspect:scorer=match").traces[0].answer_correct is True
    assert imported(log, "log.json", "inspect:scorer=judge").traces[0].answer_correct is False


@pytest.mark.parametrize(
    ("value", "correct"),
    [
        ("C", True),
        ("I", False),
        ("P", None),
        ("N", None),
        (1.0, True),
        (0, False),
        (0.5, None),
        (True, True),
        ([1], None),
    ],
)
def test_inspect_scores_that_are_neither_right_nor_wrong_say_nothing(imported, value, correct):
    sample = {"id": 1, "epoch": 1, "input": "q", "output": {"completion": "a"}, "scores": {"s": {"value": value}}}
    assert imported(lines(sample)).traces[0].answer_correct is correct


def test_chat_finds_the_reasoning_wherever_it_stands(fixture_file):
    inline, field, parts, turns, *completions, batch = fixture_file("chat.jsonl").traces
    assert texts(inline) == ["Two and three.\n\n", "That is five.\n", "The sum is 5."]
    assert texts(field) == texts(parts) == ["Two and three.", "The sum is 5."]
    assert {trace.problem for trace in (inline, field, parts)} == {"What is 2 + 3?"}
    assert (turns.problem, texts(turns)) == ("And twice that?", ["It is 10."])
    assert [trace.id for trace in completions] == ["chatcmpl-1/0", "chatcmpl-1/1"]
    assert (batch.id, batch.problem, batch.generator) == ("q-17", "", "m-1")
    assert inline.meta["split"] == "dev"


def test_chat_options(fixture_file):
    without = fixture_file("chat.jsonl", "chat:reasoning=exclude").traces
    assert [texts(trace) for trace in without[:3]] == [["The sum is 5."]] * 3
    only = fixture_file("chat.jsonl", "chat:reasoning=only")
    assert texts(only.traces[1]) == ["Two and three."]
    assert only.codes == [(4, "no_solution"), (5, "no_solution"), (6, "no_solution")]
    sentences = fixture_file("chat.jsonl", segmentation="sentence").traces[0]
    assert sentences.segmentation == "sentence@1"


def test_chat_turns_can_each_be_a_trace(imported):
    talk = [
        {"role": "user", "content": "a?"},
        {"role": "assistant", "content": "A."},
        {"role": "user", "content": "b?"},
        {"role": "assistant", "content": "B."},
    ]
    found = imported(lines({"id": "t", "messages": talk}), format="chat:turns=all")
    assert [(trace.id, trace.problem, texts(trace)) for trace in found.traces] == [
        ("t/1", "a?", ["A."]),
        ("t/3", "b?", ["B."]),
    ]
    assert imported(lines({"id": "t", "messages": talk[:1]})).codes == [(1, "no_solution")]


def test_a_closing_think_tag_alone_ends_the_reasoning(imported):
    def talk(answer):
        return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]}

    found = imported(lines(talk("So five.\n</think>\n\nIt is 5."), talk("<think>So five")))
    assert [texts(trace) for trace in found.traces] == [["So five.\n", "It is 5."], ["So five"]]
    assert [trace.meta["reasoning_steps"] for trace in found.traces] == [1, 1]


def test_trl_labels_end_at_the_first_error(fixture_file):
    larger, conversation = fixture_file("trl.jsonl").traces
    assert larger.step_labels == (C, C, I, U)
    assert larger.meta["labels"] == [True, True, False, False]
    assert (conversation.problem, conversation.step_labels) == ("What is 2 + 2?", (C,))


def test_our_own_lines_come_back_as_they_were(fixture_file, imported):
    given = [
        *fixture_file("processbench.jsonl").traces,
        *fixture_file("gsm8k_models.jsonl").traces,
        *fixture_file("chat.jsonl").traces[:4],
    ]
    ours = imported("".join(json.dumps(to_record(trace)) + "\n" for trace in given).encode())
    assert [trace.model_copy(update={"source": None}) for trace in ours.traces] == [
        trace.model_copy(update={"source": None}) for trace in given
    ]
    assert [trace.digest for trace in ours.traces] == [trace.digest for trace in given]
    dumped = imported("".join(trace.model_dump_json() + "\n" for trace in given).encode())
    assert [trace.digest for trace in dumped.traces] == [trace.digest for trace in given]


def test_plain_responses_are_cut_and_unknown_keys_kept(imported):
    record = {"problem": "q", "response": "One.\n\nTwo.", "solution": "the reference", "answer": 4, "tag": [1]}
    trace = imported(lines(record)).traces[0]
    assert (texts(trace), trace.segmentation, trace.final_answer) == (["One.\n\n", "Two."], "blank_line@1", "4")
    assert trace.meta == {"solution": "the reference", "tag": [1]}
    assert texts(imported(lines(record), segmentation="sentence").traces[0]) == ["One.\n\n", "Two."]


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"problem": "q", "steps": ["a"], "step_labels": ["correct", "incorrect"]}, "wrong_value"),
        ({"problem": "q", "steps": ["a"], "step_labels": ["right"]}, "wrong_value"),
        ({"problem": "q", "steps": "a"}, "wrong_type"),
        ({"problem": "q", "steps": [1]}, "wrong_type"),
        ({"problem": "q", "steps": [{"text": "a"}, "b"]}, "wrong_type"),
        ({"problem": "  ", "steps": ["a"]}, "empty_text"),
        ({"problem": "q", "response": " \n"}, "empty_text"),
        ({"problem": "q", "steps": ["a"], "answer_correct": "yes"}, "wrong_type"),
        ({"problem": "q", "steps": ["a"], "id": ["x"]}, "wrong_type"),
        ({"problem": "q", "steps": ["a"], "meta": 1}, "wrong_type"),
        ({"problem": "q", "steps": ["a"], "final_answer": True}, "wrong_type"),
        ({"problem": "p", "steps": ["a"], "label": 1, "final_answer_correct": True}, "wrong_value"),
        ({"problem": "p", "steps": ["a"], "label": -2, "final_answer_correct": True}, "wrong_value"),
        ({"problem": "p", "steps": ["a"], "label": True, "final_answer_correct": True}, "wrong_type"),
        ({"input": "p", "steps": ["a"], "mistake_index": 1}, "wrong_value"),
        ({"input": "p", "steps": ["a"], "mistake_index": "0"}, "wrong_type"),
        ({"prompt": "p", "completions": ["a"], "labels": []}, "wrong_value"),
        ({"prompt": "p", "completions": ["a"], "labels": [2]}, "wrong_value"),
        ({"question": "q", "answer": "#### 4"}, "wrong_value"),
    ],
)
def test_a_record_with_a_wrong_field_is_rejected_and_the_next_is_read(imported, plain, record, code):
    found = imported(lines(record))
    assert found.codes == [(1, code)]
    assert found.traces == []


def test_every_format_has_a_line_of_help_and_detection_is_exclusive(fixture_file):
    assert all(known.summary and "\n" not in known.summary for known in formats())
    assert len({known.name for known in formats()}) == len(formats()) == 13


def test_detection_asks_when_two_formats_fit(tmp_path):
    both = {"prompt": "p", "completions": ["a"], "labels": [True], "messages": []}
    with pytest.raises(UsageError, match="--format"):
        detect(both)
    path = tmp_path / "both.jsonl"
    path.write_bytes(lines(both))
    with pytest.raises(UsageError, match="could be chat or trl"):
        list(read_traces(path))
    assert len(list(read_traces(path, "trl"))) == 1


def test_detection_waits_for_a_record_that_it_knows_and_then_holds_the_file_to_it(imported, plain):
    found = imported(b'{"unknown": 1}\n' + plain + b'{"input": "p", "steps": ["a"], "mistake_index": null}\n')
    assert found.codes == [(1, "unknown_format"), (3, "missing_field")]
    assert found.lines_read == [2]


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("csv", UnknownNameError),
        ("prmbench:proces=both", UsageError),
        ("prmbench:process=twin", UsageError),
        ("prmbench:process", UsageError),
        ("prm800k:neutral=maybe", UsageError),
        ("prm800k:screening=no", UsageError),
        ("chat:turns=some", UsageError),
        ("chat:reasoning=some", UsageError),
        ("chat:segmentation=lines", UnknownNameError),
        ("auto:process=both", UsageError),
    ],
)
def test_a_wrong_format_is_refused_before_the_file_is_looked_at(spec, error):
    with pytest.raises(error):
        read_traces("/does/not/exist", spec)


def test_segmentation_of_what_is_split_already_is_refused(fixture_file):
    with pytest.raises(UsageError, match="split into steps already"):
        fixture_file("processbench.jsonl", "processbench", segmentation="line")
    with pytest.raises(UsageError, match="split into steps already"):
        fixture_file("processbench.jsonl", segmentation="line")
