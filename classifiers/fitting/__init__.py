"""Fitting a head: projection, the choice of hyper-parameters, and the fitted head itself."""
