"""What the stages read: images, caches, layers and rows with labels."""
