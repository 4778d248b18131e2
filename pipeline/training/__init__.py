"""The train-head, few-shot and learning-curve stages."""
