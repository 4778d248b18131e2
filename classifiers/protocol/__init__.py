"""Evaluation protocol of heads: splits, folds, metrics, intervals, calibration and significance tests."""
