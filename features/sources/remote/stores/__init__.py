"""Stores of remote files, one module each, and the connections to them."""
