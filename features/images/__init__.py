"""Decoding of image files into batches of pixels."""
