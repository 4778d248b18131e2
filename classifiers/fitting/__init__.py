"""Fitting of heads: projection, hyper-parameter search, and the fitted head."""
