"""Images to feature vectors to a cache that survives."""
