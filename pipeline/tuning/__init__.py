"""Training a network: recipe, inputs, frost line, checkpoints, and the loop over epochs."""
