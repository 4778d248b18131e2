"""Kinds of heads: built-in heads, third-party heads and their parameters."""
