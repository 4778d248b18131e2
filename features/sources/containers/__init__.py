"""Files that hold several images: what archives, arrays and tables of images have in common."""
