"""Feature vectors to labels."""
