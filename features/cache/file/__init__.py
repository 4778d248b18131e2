"""Cache files: layout, number formats, locking and validation."""
