"""Run directories: what a run records, its predictions and its summary."""
