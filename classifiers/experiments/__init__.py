"""Experiments with heads: comparisons, few-shot accuracy, learning curves and transferability scores."""
