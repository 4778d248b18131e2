"""Options of what reads, writes and explores vectors."""
