"""One cache file: its layout, its number formats, and how it is opened without trusting it."""
