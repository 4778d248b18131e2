"""Numerical routines that features and classifiers share: the choice of the device, neighbour search, components."""
