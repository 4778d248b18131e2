"""Image folders: their listing and the meaning of their sub-folders."""
