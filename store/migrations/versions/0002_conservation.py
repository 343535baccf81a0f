"""The conservation law as a view: where every pair that a run covers went.

`current_verdicts` has the row of each pair that no retry and no override has replaced.

`run_slots` has a row for each trace and verifier that a run plans, with the number of positions to
judge: the trace's steps, or one for the trace itself. A trace that a run met twice is there once.

`accounting` has the entries of the law: what was to be judged (`subjects`) and what became of it
(`outcome`: a verdict's, or `skip`, `stray`, `none`). `conservation` adds them up, for each run and
verifier:

*   `planned` = 1: the verifier was to judge the run's traces. Verdicts count whichever run stored
    them, because a run that finds its pair judged has nothing to do. A skip counts where there is
    no verdict. `strays` are verdicts about positions that the trace does not have.
*   `planned` = 0: subjects that came into being on the way, as in pipelines. What the run recorded
    is all there is to count.

Conditions are written as counts that equal zero, not as NOT EXISTS. PostgreSQL turns NOT EXISTS
into a join, and of a run that began after the last ANALYZE it believes that it has one row, for
which comparing everything with everything looks cheap. A count is looked up in an index, row by row.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CURRENT_VERDICTS = """
CREATE VIEW current_verdicts AS
SELECT v.id, v.run, v.trace_digest, v.granularity, v.position, v.verifier, v.sample, v.revision, v.outcome
FROM verdicts v
WHERE NOT EXISTS (SELECT 1 FROM verdicts newer WHERE newer.supersedes = v.id)
"""

RUN_SLOTS = """
CREATE VIEW run_slots AS
SELECT rt.run, rt.trace_digest, rv.verifier, rv.ordinal, rv.granularity, rv.samples,
    CASE WHEN rv.granularity = 'step' THEN t.step_count ELSE 1 END AS positions
FROM run_traces rt
JOIN traces t ON t.digest = rt.trace_digest
JOIN run_verifiers rv ON rv.run = rt.run AND rv.granularity IN ('step', 'trace')
WHERE (
    SELECT COUNT(*) FROM run_traces earlier
    WHERE earlier.run = rt.run AND earlier.trace_digest = rt.trace_digest AND earlier.sighting < rt.sighting
) = 0
"""

ACCOUNTING = """
CREATE VIEW accounting AS
SELECT rv.run, rv.verifier, rv.granularity, 1 AS planned, rv.ordinal, 0 AS subjects, 'none' AS outcome
FROM run_verifiers rv WHERE rv.granularity IN ('step', 'trace')
UNION ALL
SELECT s.run, s.verifier, s.granularity, 1, s.ordinal, s.positions * s.samples, 'none' FROM run_slots s
UNION ALL
SELECT s.run, s.verifier, s.granularity, 1, s.ordinal, 0,
    CASE WHEN v.position < s.positions THEN v.outcome ELSE 'stray' END
FROM run_slots s
JOIN current_verdicts v ON v.trace_digest = s.trace_digest AND v.verifier = s.verifier
    AND v.granularity = s.granularity AND v.sample < s.samples
UNION ALL
SELECT k.run, k.verifier, k.granularity, 1, rv.ordinal, 0,
    CASE WHEN k.position < CASE WHEN k.granularity = 'step' THEN t.step_count ELSE 1 END THEN 'skip' ELSE 'stray' END
FROM skips k
JOIN traces t ON t.digest = k.trace_digest
JOIN run_verifiers rv ON rv.run = k.run AND rv.verifier = k.verifier AND rv.granularity = k.granularity
    AND rv.granularity IN ('step', 'trace') AND k.sample < rv.samples
WHERE (SELECT COUNT(*) FROM run_traces rt WHERE rt.run = k.run AND rt.trace_digest = k.trace_digest) > 0
    AND (
        SELECT COUNT(*) FROM verdicts v WHERE v.trace_digest = k.trace_digest AND v.verifier = k.verifier
            AND v.granularity = k.granularity AND v.position = k.position AND v.sample = k.sample
    ) = 0
UNION ALL
SELECT v.run, v.verifier, v.granularity, 0, 1000000, 1, v.outcome
FROM current_verdicts v
WHERE (
    SELECT COUNT(*) FROM run_traces rt JOIN run_verifiers rv ON rv.run = rt.run
    WHERE rt.run = v.run AND rt.trace_digest = v.trace_digest AND rv.verifier = v.verifier
        AND rv.granularity = v.granularity AND rv.granularity IN ('step', 'trace')
) = 0
UNION ALL
SELECT k.run, k.verifier, k.granularity, 0, 1000000, 1, 'skip'
FROM skips k
WHERE (
    SELECT COUNT(*) FROM run_traces rt JOIN run_verifiers rv ON rv.run = rt.run
    WHERE rt.run = k.run AND rt.trace_digest = k.trace_digest AND rv.verifier = k.verifier
        AND rv.granularity = k.granularity AND rv.granularity IN ('step', 'trace')
) = 0 AND (
    SELECT COUNT(*) FROM verdicts v WHERE v.trace_digest = k.trace_digest AND v.verifier = k.verifier
        AND v.granularity = k.granularity AND v.position = k.position AND v.sample = k.sample
) = 0
"""

CONSERVATION = """
CREATE VIEW conservation AS
SELECT run, verifier, granularity, planned, MIN(ordinal) AS ordinal, SUM(subjects) AS subjects,
    SUM(CASE WHEN outcome = 'accept' THEN 1 ELSE 0 END) AS accepted,
    SUM(CASE WHEN outcome = 'reject' THEN 1 ELSE 0 END) AS rejected,
    SUM(CASE WHEN outcome = 'abstain' THEN 1 ELSE 0 END) AS abstained,
    SUM(CASE WHEN outcome = 'error' THEN 1 ELSE 0 END) AS errored,
    SUM(CASE WHEN outcome = 'skip' THEN 1 ELSE 0 END) AS skipped,
    SUM(CASE WHEN outcome = 'stray' THEN 1 ELSE 0 END) AS strays
FROM accounting
GROUP BY run, verifier, granularity, planned
"""


def upgrade() -> None:
    for view in (CURRENT_VERDICTS, RUN_SLOTS, ACCOUNTING, CONSERVATION):
        op.execute(view)
