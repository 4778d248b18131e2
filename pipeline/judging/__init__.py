"""The evaluate and predict stages, which apply a trained run."""
