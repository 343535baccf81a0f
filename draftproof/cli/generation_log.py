"""A generation of the command line in the store: a run that begins before it and ends however it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from draftproof.store.records import RunStatus
from draftproof.store.verdict_store import VerdictStore

if TYPE_CHECKING:
    from draftproof.drafting.generation import Generation


class GenerationLog:
    """A sink of the decoder: keeps the generation as a trace of token blocks, with a verdict for each block."""

    def __init__(self, url: str, problem: str, command: str, settings: Mapping[str, Any]) -> None:
        self._store = VerdictStore.open(url)
        self._problem = problem
        self._made: list[Generation] = []
        self.run_id = self._store.begin_run(command, settings=settings).id

    def __call__(self, generation: Generation) -> None:
        from draftproof.drafting.verdicts import trace_of, verdicts_of

        trace = trace_of(generation, self._problem)
        self._store.add_traces(self.run_id, [trace])
        self._store.add(verdicts_of(generation, trace), self.run_id)
        self._made.append(generation)

    def finish(self, error: BaseException | None) -> None:
        """Notes how the run ended: by itself, by a fault, or because somebody stopped it or no longer reads."""
        if error is None:
            status = RunStatus.FINISHED
        else:
            failed = isinstance(error, Exception) and not isinstance(error, BrokenPipeError)
            status = RunStatus.FAILED if failed else RunStatus.INTERRUPTED
        counts = {
            "traces": len(self._made),
            "rounds": sum(len(each.rounds) for each in self._made),
            "output_tokens": sum(len(each.tokens) for each in self._made),
        }
        self._store.finish_run(self.run_id, status, counts=counts)
        self._store.close()
