"""Writing a cache file: creation, rows, commits and the reuse of earlier rows."""
