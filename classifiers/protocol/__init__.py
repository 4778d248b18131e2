"""How heads are judged: splits, folds, metrics, intervals, calibration and significance."""
