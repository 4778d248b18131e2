"""What image files say about their pixels, and whether the pixels are whole."""
