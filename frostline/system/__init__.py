"""Operating-system specific code for Linux, macOS and Windows. No other module depends on the operating system.

Features are detected through Python, not by the system's name, so that newer systems use the features they gain.
"""
