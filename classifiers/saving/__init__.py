"""Saving and loading of fitted heads."""
