"""Forward pass of a backbone, from uint8 pixels to feature vectors."""
