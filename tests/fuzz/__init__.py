"""Fuzzing of everything that reads a file: whatever the bytes, an error of Frostline or a result, and nothing else."""
