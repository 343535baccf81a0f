"""A pipeline run in a process of its own, for tests that end it: `pipeline_process.py URL COUNT WORKERS SECONDS`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from stub_models import counted, create  # type: ignore[import-not-found]

from draftproof.batch.pipeline_run import run_pipeline
from draftproof.batch.stopping import Terminated
from draftproof.store.verdict_store import VerdictStore


def main(url: str, count: int, workers: int, seconds: float) -> int:
    with VerdictStore.open(url) as store:
        run = run_pipeline(create(seconds), counted(count), store=store, workers=workers, command="test")
        try:
            for solved in run:
                print(solved.problem.id, solved.answer, solved.known, flush=True)
        except Terminated:
            return 143
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
