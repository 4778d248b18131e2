"""The frostline command."""
