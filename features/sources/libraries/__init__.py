"""Data sets that other libraries know by name: those of torchvision and of the Hugging Face hub."""
