"""Training loop of a network: updates, schedules, checkpoints and processes."""
