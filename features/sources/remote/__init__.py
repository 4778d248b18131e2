"""Images on other machines: object stores and web servers, read through fsspec."""
