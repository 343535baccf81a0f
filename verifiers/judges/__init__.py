"""Language models as judges: of one subject at a time (`judge`), and of candidates that compete (`judge_group`)."""
