"""Plots, thumbnails and tables."""
