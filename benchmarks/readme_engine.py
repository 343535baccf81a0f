"""The engine's sections of benchmarks/README.md."""

from __future__ import annotations

from collections.abc import Iterator

from readme_table import Line, table

SUMMED = ("v1_over_read", "v8_over_v1", "prefill_times_transformers")


def forward(lines: list[Line]) -> Iterator[str]:
    yield "## A pass of the target (`bench_forward.py`)\n"
    read = next((line for line in lines if line.get("measure") == "read"), None)
    forms = next((line["matrices"] for line in lines if line.get("measure") == "forms"), {})
    if read:
        yield (
            f"Memory is read at {read['gigabytes_per_second']:.1f} GB/s here, so that one read of all weights takes "
            f"{read['read_ms']:.1f} ms in float32. `lean` keeps matrices in the smallest form that gives back every "
            f"number exactly ({', '.join(f'{count} as {form}' for form, count in forms.items())}: the checkpoint was "
            "made from a quantised file); `lean, 32 bits` is the same with weights that use all of their bits. "
            "transformers computes with the same numbers, in float32; its modes of other precision were not tried. "
            "Fastest pass over k tokens, in milliseconds:\n"
        )
    passes = [line for line in lines if line.get("measure") == "pass"]
    for context in dict.fromkeys(line["context"] for line in passes):
        of = {(line["backend"], line["tokens"]): line["ms"] for line in passes if line["context"] == context}
        sizes = list(dict.fromkeys(tokens for _, tokens in of))
        rows = [(backend, *(f"{of[backend, k]:.1f}" for k in sizes)) for backend in dict.fromkeys(b for b, _ in of)]
        yield from table((f"backend, {context} tokens before", *(f"k = {k}" for k in sizes)), rows)
        yield ""
    sums = [line for line in lines if line.get("measure") == "summary"]
    rows = [
        (
            line["backend"],
            line["context"],
            *(f"{line[key]:.2f}" for key in SUMMED),
            f"{line['times_transformers']['8']:.1f}",
        )
        for line in sums
    ]
    yield from table(
        (
            *("backend", "tokens before", "v(1) / one read of 32-bit weights", "v(8) / v(1)"),
            *("prefill, times as fast as transformers", "eight tokens, times as fast"),
        ),
        rows,
    )
    yield ""
    if passes:
        yield "![Milliseconds of a pass over k tokens](../docs/pictures/forward-cost.svg)"


def decode(lines: list[Line]) -> Iterator[str]:
    yield "## Tokens per second of whole generations (`bench_decode.py`)\n"
    of = [line for line in lines if line.get("measurement") == "category"]
    names = list(dict.fromkeys(line["category"] for line in of))
    peers = list(dict.fromkeys(line["peer"] for line in of))
    cells = {(line["peer"], line["category"]): line for line in of}
    prompts = max(line["prompts"] for line in of)
    yield (
        f"Greedy, batch 1, 128 new tokens at most, prefill included, {prompts} prompts of Spec-Bench's six categories "
        "and ten that ask for copies; in brackets the ratio to plain `generate` on the same prompts. `suffix` is the "
        "default; what names `heads` or a `history` was trained beforehand on the target's answers to other prompts. "
        "Much of the gain is that this checkpoint's weights, from a quantised file, are read in as few bits (see the "
        "passes above): a checkpoint that needs 32 bits gains less.\n"
    )
    rows = []
    for peer in peers:
        found = [cells.get((peer, name)) for name in names]
        rows.append((peer, *("" if cell is None else speed_and_ratio(cell) for cell in found)))
    yield from table(("", *names), rows)
    yield from multiples(cells, peers, names)
    drafting = [peer for peer in peers if any((cells.get((peer, n)) or {}).get("acceptance_length") for n in names)]
    if drafting:
        yield "\nMean acceptance length, tokens a verification:\n"
        lengths = [
            (peer, *(f"{(cells.get((peer, n)) or {}).get('acceptance_length') or 1.0:.2f}" for n in names))
            for peer in drafting
        ]
        yield from table(("", *names), lengths)
    yield from differing([line for line in lines if line.get("measurement") == "difference"])


def multiples(cells: dict[tuple[str, str], Line], peers: list[str], names: list[str]) -> Iterator[str]:
    """Each of ours, the default first, beside what it could be compared with."""
    ours = [peer for peer in peers if peer.startswith("draftproof ") and peer != "draftproof plain"]
    assisted = [peer for peer in peers if peer.startswith("transformers ") and peer != "transformers generate"]
    rivals = {
        "plain `generate`": ["transformers generate"],
        "transformers' best assisted mode": assisted,
        "llama.cpp, float32": ["llama.cpp float32"],
        "our engine without drafts": ["draftproof plain"],
    }
    yield "\nTokens per second in multiples of others':\n"
    rows = []
    for peer in ours:
        for told, group in rivals.items():
            speeds = {n: [cells[p, n]["tokens_per_second"] for p in group if (p, n) in cells] for n in names}
            if all(speeds.values()) and all((peer, n) in cells for n in names):
                ratios = [cells[peer, n]["tokens_per_second"] / max(speeds[n]) for n in names]
                rows.append((peer, told, *(f"{ratio:.2f}" for ratio in ratios)))
    yield from table(("", "in multiples of", *names), rows)


def differing(lines: list[Line]) -> Iterator[str]:
    if not lines:
        yield "\nAll outputs are token for token those of plain `generate`."
        return
    unexplained = sum(not line["noise_explains"] for line in lines)
    yield (
        f"\n{len(lines)} outputs part from plain `generate`, {unexplained} of them by more than the noise of float32 "
        "there (the largest difference between logits of passes over one and over several tokens, and between the two "
        "forward passes):\n"
    )
    rows = [(line["peer"], line["prompt"], line["at"], f"{line['gap']:.2g}", f"{line['noise']:.2g}") for line in lines]
    yield from table(("", "prompt", "token", "gap of the best two logits", "noise"), rows)


def policies(lines: list[Line]) -> Iterator[str]:
    yield "## The default length policy beside fixed lengths (`bench_policies.py`)\n"
    yield "Tokens per second; the last row is the default over the best of the others, chosen with hindsight.\n"
    names = list(dict.fromkeys(line["category"] for line in lines))
    cells = {(line["peer"], line["category"]): line for line in lines}
    rows = [
        (peer, *(f"{cells[peer, name]['tokens_per_second']:.1f}" for name in names))
        for peer in dict.fromkeys(line["peer"] for line in lines)
    ]
    rows.append(("cost / best of the others", *(f"{cells['cost', name]['of_best_fixed']:.3f}" for name in names)))
    yield from table(("", *names), rows)


def heads(lines: list[Line]) -> Iterator[str]:
    yield "## Draft heads of equal text, steps and seed (`bench_heads.py`)\n"
    rows = [
        (
            line["kind"],
            f"{line['vocabulary']:,}",
            f"{100 * line['coverage']:.1f} %",
            " / ".join(f"{100 * share:.0f} %" for share in line["top1"]),
            f"{line['tokens_per_pass_7']:.2f}",
            f"{line['tokens_per_pass_15']:.2f}",
            f"{line['draft_ms_15']:.1f}",
            f"{line['full_head_ms']:.2f} → {line['trimmed_head_ms']:.2f}",
        )
        for line in lines
    ]
    yield from table(
        (
            *("kind", "vocabulary", "text covered", "right at place 1 / 2 / 3 / 4", "tokens a pass, 7 nodes"),
            *("15 nodes", "ms a draft", "ms of the head, full → trimmed"),
        ),
        rows,
    )


def rules(lines: list[Line]) -> Iterator[str]:
    yield "## Block verification against token verification (`bench_rules.py`)\n"
    yield (
        "Sampled at temperature 1; the interval is a bootstrap's over prompts and seeds. The draft model is as large "
        "as the target: this is about acceptance, not speed.\n"
    )
    rows = [
        (
            line["drafter"],
            line["rule"],
            f"{line['rounds']:,}",
            f"{line['tokens_per_verification']:.3f}",
            ""
            if line["rule"] == "token"
            else f"{line['above_token']:+.3f} [{line['interval'][0]}, {line['interval'][1]}]",
        )
        for line in lines
    ]
    yield from table(("drafter", "rule", "rounds", "tokens a verification", "above `token`"), rows)


def acceptance(lines: list[Line]) -> Iterator[str]:
    yield "## Mean acceptance length of drafters without a model (`replay_drafters.py`)\n"
    yield (
        f"Tokens a verification when {lines[0]['texts']} recorded greedy answers of the target are drafted again with "
        "the default policy: what would be accepted of each draft is then known. Drafters that run a model are in the "
        "sections on generations and on heads.\n"
    )
    cells = {(line["drafter"], line["category"]): line for line in lines if line["policy"] == "cost"}
    names = list(dict.fromkeys(line["category"] for line in lines))
    rows = [
        (drafter, *(f"{cells[drafter, name]['tokens_per_round']:.2f}" for name in names))
        for drafter in dict.fromkeys(line["drafter"] for line in lines)
    ]
    yield from table(("", *names), rows)


def overheads(lines: list[Line]) -> Iterator[str]:
    yield "## Memory, and verdicts of every round (`bench_overheads.py`)\n"
    for line in lines:
        if line["measure"] == "memory":
            ours, theirs = line["megabytes"]["draftproof"], line["megabytes"]["generate"]
            yield f"- Peak memory {ours:,.0f} MB, plain `generate` {theirs:,.0f} MB: {line['ratio']:.2f} times."
        if line["measure"] == "verdicts":
            yield (
                f"- Storing a verdict for each of {line['rounds']:,} rounds took {100 * line['share']:.1f} % of the "
                "time of decoding."
            )


def speed_and_ratio(cell: Line) -> str:
    ratio = cell.get("times_generate")
    return f"{cell['tokens_per_second']:.1f}" + (f" ({ratio:.2f})" if ratio else "")


def compiled_kernels(lines: list[Line]) -> Iterator[str]:
    yield "## Kernels compiled for sm_90, without a device (`compile_kernels.py`)\n"
    rows = [
        (line["kernel"], line["case"], line["registers"], line["spill_store_bytes"] + line["spill_load_bytes"])
        for line in lines
    ]
    yield from table(("kernel", "case", "registers", "spilled bytes"), rows)
