"""Write a solution N times and take the best: by majority, by a verifier's score, or by votes that weigh their score.

    open ─> sample ─> judge ─> select ─> close          without a verifier: sample ─> select

    vote           the answer that most candidates state (self-consistency, arXiv 2203.11171)
    score          the candidate that the verifier likes best: its score of the whole, or its scores of the steps
                   brought together by `aggregation` (min, product, mean, last, first_error)
    weighted-vote  the answer whose candidates' scores sum to most

A candidate that states no answer, or was cut off before it ended, has no vote. One that the verifier does not score
cannot win by score and adds nothing to a weighted vote; neither can one that was cut off, unless all were. Where none
is scored, the majority decides, and `reason` says so; where no answer can be read either, nobody wins and the first
candidate is the text, for want of a better one.

Ties are broken the same way always: equal scores by how many candidates state the same answer, equal votes by the sum
of scores; then the candidate that was drawn first. Within the winning answer, the candidate with the best score is the
text. With a reference answer, the output tells how many candidates were right and what majority and an all-knowing
choice would have come to: a best-of-N that is not between them and pass@1 has nothing to do with its verifier.

Verdicts stand under the problem's opening; their sample number is the candidate's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer

from draftproof.errors import ContextLengthError, UnknownNameError, UsageError
from draftproof.language_model import Decoding, LanguageModel
from draftproof.pipelines.candidate_choice import WAYS, By, Choice, choose
from draftproof.pipelines.candidate_output import NOBODY, SELECTION, Chosen, best_of_output, candidate_of, comparable
from draftproof.pipelines.candidate_state import BestOfNOutput, BestOfNState, Candidate
from draftproof.pipelines.sampled_log import SampledLog, shifted
from draftproof.pipelines.step_audit import Audit, Pipeline, configured, finished_trace
from draftproof.pipelines.step_internals import require_told
from draftproof.pipelines.step_judging import score_of
from draftproof.pipelines.step_loop import context_of
from draftproof.pipelines.step_nodes import Update, attempt_of, failure, opened
from draftproof.pipelines.step_state import StepInput, StepSettings
from draftproof.pipelines.whole_texts import write_whole
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.trace import Trace
from draftproof.verdict import FeatureEvidence, Guarantee, Outcome, Proposition, Verdict, VotesEvidence
from draftproof.verifier import VerdictLog, Verifier, identity, run_verifier
from draftproof.verifiers.process_reward.aggregation import AGGREGATIONS, Aggregation, aggregate

VERSION = 2
"""2: what was cut off does not win by score over what was finished."""
SAMPLED = Decoding(temperature=0.7)
_REWARDS = (Proposition.CORRECT, Proposition.LEADS_TO_ANSWER, Proposition.SUPPORTED)

BestOfNGraph = StateGraph[BestOfNState, None, StepInput, BestOfNOutput]
CompiledBestOfNGraph = CompiledStateGraph[BestOfNState, None, StepInput, BestOfNOutput]


def create_best_of_n(
    model: LanguageModel,
    *,
    checkpointer: Checkpointer = None,
    interrupt_before: Sequence[str] = (),
    **options: Any,
) -> CompiledBestOfNGraph:
    """The graph of `build_best_of_n`, ready to be invoked."""
    graph = build_best_of_n(model, **options)
    return graph.compile(checkpointer, interrupt_before=list(interrupt_before), name="best_of_n")


def build_best_of_n(
    model: LanguageModel,
    *,
    log: VerdictLog,
    n: int = 8,
    by: By = "vote",
    verifier: Verifier | None = None,
    aggregation: Aggregation = "min",
    settings: StepSettings | None = None,
    decoding: Decoding = SAMPLED,
    on_trace: Callable[[Trace], None] | None = None,
) -> BestOfNGraph:
    """One problem a run; any number of runs at once.

    Args:
        log: Where every verdict goes before anything is decided by it.
        n: Candidates, all asked for in one batch.
        verifier: Of steps or of whole solutions: whether they are right, or which one of the group is the best. All
            candidates go to it in one call.
        aggregation: How scores of steps become the candidate's; without a meaning for a verifier of whole solutions.
        decoding: Candidate i is drawn with the seed plus i.

    Raises UsageError for what does not fit together.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise UsageError(f"There must be one candidate at least, not {n!r}.")
    if n > 1 and decoding.temperature == 0.0:
        raise UsageError(f"At temperature 0 all {n} candidates are one.", remedy="Give a temperature such as 0.7.")
    _require_fit(by, verifier, aggregation)
    settings = settings or StepSettings()
    signed = "" if verifier is None else identity(verifier)
    configuration = configured(
        model, model, settings, decoding, n=n, by=by, verifier=signed, aggregation=aggregation if verifier else ""
    )
    nodes = BestOfNNodes(
        Pipeline("best-of-n", VERSION, configuration), model, log, n, by, verifier, aggregation, settings, decoding,
        on_trace,
    )  # fmt: skip
    graph: BestOfNGraph = StateGraph(BestOfNState, input_schema=StepInput, output_schema=BestOfNOutput)
    for name in ("open", "sample", "select", "close"):
        graph.add_node(name, getattr(nodes, name))
    graph.add_edge(START, "open")
    graph.add_edge("open", "sample")
    judging = "select" if verifier is None else "judge"
    graph.add_conditional_edges("sample", lambda state: judging if state["candidates"] else "close", [judging, "close"])
    if verifier is not None:
        graph.add_node("judge", nodes.judge)
        graph.add_edge("judge", "select")
    graph.add_edge("select", "close")
    graph.add_edge("close", END)
    return graph


@dataclass(frozen=True)
class BestOfNNodes:
    """The nodes. Each takes the state and returns what it changes."""

    pipeline: Pipeline
    model: LanguageModel
    log: VerdictLog
    n: int
    by: By
    verifier: Verifier | None
    aggregation: Aggregation
    settings: StepSettings
    decoding: Decoding
    on_trace: Callable[[Trace], None] | None

    def open(self, state: StepInput) -> Update:
        """Raises InputError for what is no problem."""
        opening = opened(
            state,
            self.pipeline.signature(attempt_of(state)),
            verifier="" if self.verifier is None else identity(self.verifier),
            proposition="" if self.verifier is None else self.verifier.proposition.value,
        )
        nobody: Update = {"candidates": [], **NOBODY._asdict()}
        return {**opening, **nobody, "judge_calls": 0, "judge_seconds": 0.0, "finish": "end", "error": ""}

    def sample(self, state: BestOfNState) -> Update:
        """All candidates, in one batch."""
        first = self.decoding.seed + state["attempt"] * self.n
        decodings = [replace(self.decoding, seed=first + i) for i in range(self.n)]
        context = context_of(state["problem"], [], self.settings.system)
        try:
            texts = write_whole(self.model, context, decodings, self.settings)
        except GraphBubbleUp:  # LangGraph's own way to say that a graph was interrupted
            raise
        except Exception as error:  # whatever a backend does when it fails
            full, evidence = isinstance(error, ContextLengthError), failure(error)
            Audit(self.log).failed(state, 0, "target", self.model.identity, evidence, full=full)
            if full:
                return {"finish": "context"}
            return {"finish": "error", "error": f"model: {evidence.type}: {evidence.message}"}
        return {"candidates": [candidate_of(text, state["reference_answer"]) for text in texts]}

    def judge(self, state: BestOfNState) -> Update:
        """One call of the verifier about everything that was written."""
        assert self.verifier is not None, "without a verifier there is no such node"
        by_step = self.verifier.granularity is Granularity.STEP
        about = _steps_of if by_step else _whole_of
        subjects, numbers = [], []
        for number, candidate in enumerate(state["candidates"]):
            mine = about(state, candidate)
            subjects += mine
            numbers += [number] * len(mine)
        started = time.perf_counter()
        log = SampledLog(self.log, lambda place, own: numbers[place])
        verdicts = run_verifier(self.verifier, subjects, log=log)
        seconds = time.perf_counter() - started
        scores: list[list[float | None]] = [[] for _ in state["candidates"]]
        for number, verdict in zip(numbers, verdicts, strict=True):
            scores[number].append(score_of(verdict))
        candidates: list[Candidate] = []
        for candidate, of_it in zip(state["candidates"], scores, strict=True):
            if by_step:
                whole = aggregate(of_it, self.aggregation)
                score = whole.score if whole.decided else None
                candidates.append({**candidate, "score": score, "step_scores": of_it})
            else:
                candidates.append({**candidate, "score": of_it[0]})
        return {"candidates": candidates, "judge_calls": len(subjects), "judge_seconds": seconds}

    def select(self, state: BestOfNState) -> Update:
        """The winner, with a verdict about each of the group."""
        candidates = state["candidates"]
        choice = choose([each["answer"] for each in candidates], comparable(candidates), self.by)
        taken = choice.winner or 0
        for number, candidate in enumerate(candidates):
            audit = Audit(shifted(self.log, number))
            for position, step in enumerate(candidate["steps"]):
                audit.written(state, position, [(step, number == taken)], step["phase"])
        self.log.add([self._verdict(state, choice, number) for number in range(len(candidates))])
        return {"winner": choice.winner, "by": choice.by, "reason": choice.reason}

    def _verdict(self, state: BestOfNState, choice: Choice, number: int) -> Verdict:
        candidates, share = state["candidates"], choice.shares[number]
        votes = [each["answer"] for each in candidates]
        winner = None if choice.winner is None else votes[choice.winner]
        agreement = votes.count(winner) / len(votes) if winner is not None else 0.0
        score = candidates[number]["score"]
        won = Outcome.ACCEPT if number == choice.winner else Outcome.REJECT
        return Verdict(
            subject=_key(state, Granularity.TRACE, 0),
            verifier=f"{SELECTION}{state['pipeline'].rpartition('#')[2]}",
            sample=number,
            proposition=Proposition.BEST_OF_GROUP,
            outcome=Outcome.ABSTAIN if share is None else won,
            score=share,
            guarantee=Guarantee.OPINION,
            lossless=False,
            reason=choice.reason,
            evidence=(
                VotesEvidence(votes=tuple(each or "" for each in votes), winner=winner, agreement=agreement),
                *([] if score is None else [FeatureEvidence(values={"score": score})]),
            ),
            raw={
                "by": choice.by,
                "asked_for": self.by,
                "group": state["opening"],
                "winner": choice.winner,
                "steps": len(candidates[number]["steps"]),
                "judge_seconds": state["judge_seconds"],
            },
        )

    def close(self, state: BestOfNState) -> Update:
        """The winner as the text, its trace, and the verdict about how it ended."""
        chosen = Chosen(state["winner"], state["by"], state["reason"])
        output = best_of_output(
            state,
            state["candidates"],
            chosen,
            finish=state["finish"],
            error=state["error"],
            judge_calls=state["judge_calls"],
            judge_seconds=state["judge_seconds"],
        )
        Audit(self.log).closed(output)
        if self.on_trace is not None:
            self.on_trace(finished_trace(output))
        return {**output}


def _steps_of(state: BestOfNState, candidate: Candidate) -> list[Subject]:
    texts = tuple(step["text"] for step in candidate["steps"])
    return [
        Subject(
            key=_key(state, Granularity.STEP, position),
            problem=state["problem"],
            text=text,
            context=texts[:position],
            group=state["opening"],
        )
        for position, text in enumerate(texts)
    ]


def _whole_of(state: BestOfNState, candidate: Candidate) -> list[Subject]:
    key = _key(state, Granularity.TRACE, 0)
    return [Subject(key=key, problem=state["problem"], text=candidate["text"], group=state["opening"])]


def _key(state: BestOfNState, granularity: Granularity, position: int) -> SubjectKey:
    return SubjectKey(trace_digest=state["opening"], granularity=granularity, position=position)


def _require_fit(by: str, verifier: Verifier | None, aggregation: str) -> None:
    if by not in WAYS:
        raise UnknownNameError(f"A candidate cannot be chosen by {by!r}.", remedy=f"There are: {', '.join(WAYS)}.")
    if aggregation not in AGGREGATIONS:
        raise UnknownNameError(
            f"There is no aggregation {aggregation!r}.", remedy=f"There are: {', '.join(AGGREGATIONS)}."
        )
    if verifier is None:
        if by != "vote":
            raise UsageError(f"Choosing by {by} needs a verifier.", remedy="See `draftproof verifiers list`.")
        return
    if by == "vote":
        raise UsageError(f"A plain vote asks nobody, and was given the verifier {verifier.name}.")
    wanted = {Granularity.STEP: _REWARDS, Granularity.TRACE: (*_REWARDS, Proposition.BEST_OF_GROUP)}
    if verifier.proposition not in wanted.get(verifier.granularity, ()):
        raise UsageError(
            f"Candidates are chosen by how right they or their steps are; {verifier.name} says of a"
            f" {verifier.granularity.value} whether it is {verifier.proposition.value}."
        )
    require_told(verifier, (), "Choosing among whole solutions")
