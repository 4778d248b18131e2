"""Where work runs: memory, other processes and clusters."""
