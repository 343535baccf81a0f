"""A pocket model as a folder that anybody can load: weights, tokenizer, model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.drafting.pocket.evaluation import Solved, evaluate, held_out_problems
from draftproof.drafting.pocket.problems import PocketProblem
from draftproof.drafting.pocket.training import PocketSize

RECORD = "training.json"
_CARD = """---
license: apache-2.0
library_name: transformers
tags: [draft-then-verify, arithmetic, pocket]
---

# {name}

A Llama model of {parameters:,} parameters ({layers} layers, width {hidden}) that solves small word problems step by
step, a calculation a step. It was made by `draftproof train pocket` from problems that are drawn by a program, and is
meant for trying and testing draft-then-verify methods where every step's truth is known. It knows nothing else.

- Prompt: the problem and a blank line. Answer: steps with blank lines between, then `The answer is N.`
- Trained on {examples:,} problems ({steps:,} steps of {batch}), seed {seed}; a held-out problem is among them
  only by chance.{taught}
- Held-out problems: **{accuracy:.1%}** of {problems:,} final answers right, greedy.
- First faults: {faults}.
- {hard_faults} of {all_faults} first faults are in hard steps (carries, large products and quotients), which are
  {hard_share:.0%} of all steps.

Example:

> {example}
"""


def save_pocket(
    folder: Path, name: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, size: PocketSize, seed: int,
    problems: int = 1000,
) -> Solved:  # fmt: skip
    """Write the model in bfloat16, measure what was written on held-out problems, and write the card."""
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    asked = held_out_problems(problems)
    loaded = load_model(folder)
    solved = evaluate(loaded, asked)
    record = record_of(model, loaded, size, seed, solved)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(name, record, asked[0]), encoding="utf-8")
    return solved


def record_of(
    model: LlamaForCausalLM, loaded: LoadedModel, size: PocketSize, seed: int, solved: Solved
) -> dict[str, Any]:
    """What the card says, as JSON values."""
    return {
        "parameters": sum(each.numel() for each in model.parameters()),
        "hidden": size.hidden,
        "layers": size.layers,
        "steps": size.steps,
        "batch": size.batch,
        "learning_rate": size.learning_rate,
        "long_share": size.long_share,
        "seed": seed,
        "digest": loaded.model.info.digest,
        "held_out": {
            "problems": solved.problems,
            "right": solved.right,
            "accuracy": solved.accuracy,
            "faults": {fault.value: count for fault, count in solved.faults.most_common()},
            "hard_faults": solved.hard_faults,
            "steps": solved.steps,
            "hard_steps": solved.hard_steps,
        },
    }


def card(name: str, record: Mapping[str, Any], example: PocketProblem) -> str:
    held = record["held_out"]
    faults = ", ".join(f"{fault.replace('_', ' ')} {count}" for fault, count in held["faults"].items()) or "none"
    long_share = record.get("long_share", 1.0)
    less = (
        f"\n- Of the results of long products and quotients, {long_share:.0%} were taught." if long_share < 1.0 else ""
    )
    return _CARD.format(
        taught=less,
        name=name,
        parameters=record["parameters"],
        layers=record["layers"],
        hidden=record["hidden"],
        examples=record["steps"] * record["batch"],
        steps=record["steps"],
        batch=record["batch"],
        seed=record["seed"],
        accuracy=held["accuracy"],
        problems=held["problems"],
        faults=faults,
        hard_faults=held["hard_faults"],
        all_faults=sum(held["faults"].values()),
        hard_share=held["hard_steps"] / max(1, held["steps"]),
        example=(example.text + "\n\n" + example.solution).replace("\n", "\n> "),
    )
