"""Image files to batches of pixels."""
