"""Vectors that were computed elsewhere, written as a cache."""
