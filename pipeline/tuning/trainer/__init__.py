"""The training loop of a network: steps, schedules, checkpoints and processes."""
