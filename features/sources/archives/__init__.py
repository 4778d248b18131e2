"""Archives of images: tar and zip files, read without unpacking them."""
