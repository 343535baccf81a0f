"""Batch verification: traces in, verdicts in the store, nothing lost and nothing judged twice."""
