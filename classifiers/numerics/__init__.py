"""Numerical routines of the heads: training matrices, solvers and neighbour search."""
