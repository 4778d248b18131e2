"""Machines that run the work: memory, processes and clusters."""
