"""The feature cache: one HDF5 file, written once, safely, and read without copies."""
