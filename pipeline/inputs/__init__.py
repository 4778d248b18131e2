"""Inputs of the stages: images, caches, layers and labelled rows."""
