"""Stages that explore the vectors of a cache: search, duplicates, outliers."""
