"""Pretrained image networks, by name."""
