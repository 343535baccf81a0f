"""Process reward models: one score a step, from a trained model's opinion of it."""
