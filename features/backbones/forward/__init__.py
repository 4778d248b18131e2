"""A backbone's forward pass, from uint8 pixels to feature vectors."""
