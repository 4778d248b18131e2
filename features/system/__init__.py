"""What Linux, macOS and Windows do each in their own way; nothing else here depends on the operating system.

What a system has is asked of Python, not told by the system's name, so that a newer one that has more of it makes use of it.
"""
