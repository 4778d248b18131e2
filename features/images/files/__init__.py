"""Pixel formats of image files, and detection of damaged pixels."""
