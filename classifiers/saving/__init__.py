"""Heads on disk."""
