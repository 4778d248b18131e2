"""Numerical routines of the heads: training matrices and solvers."""
