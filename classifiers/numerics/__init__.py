"""Matrices, solvers and neighbour search that heads are built on."""
