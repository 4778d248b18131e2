"""Estimators for scikit-learn that take images."""
