"""Writing of cache files: creation, rows, commits and reuse of earlier rows."""
