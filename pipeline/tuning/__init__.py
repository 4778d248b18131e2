"""The finetune stage: recipe, inputs, frost line, checkpoints and training loop."""
