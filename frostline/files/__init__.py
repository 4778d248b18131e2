"""Reading of files that nobody vouches for: without waiting, within a size, and checked before anything is believed."""
