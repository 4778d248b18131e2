"""Commands in forked processes that are disturbed at their file-system events."""
