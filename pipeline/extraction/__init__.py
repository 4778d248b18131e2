"""The stage that computes features and writes them to a cache."""
