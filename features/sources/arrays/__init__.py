"""Arrays of images: NumPy and HDF5 files, the MNIST family's files, and the CIFAR archives."""
