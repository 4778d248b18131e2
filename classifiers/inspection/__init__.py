"""Inspection of data sets by features and heads: duplicates, leaks between splits, and label errors."""
