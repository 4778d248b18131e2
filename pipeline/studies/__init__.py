"""Stages for many runs: batch, compare and report."""
