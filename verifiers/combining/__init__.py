"""Several verifiers as one: calibrated, weighed, asked in turn, held to an error rate, or put to a vote.

Only verdicts about one proposition and one granularity are ever combined; anything else is refused
when the combination is made. A combination's verdicts are opinions, whatever its parts can prove,
except where an error bound is stated with them (`conformal`): the parts' own verdicts are logged
with their own guarantees.
"""
