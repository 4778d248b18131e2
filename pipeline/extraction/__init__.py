"""The extract stage, which computes features and writes them to a cache."""
