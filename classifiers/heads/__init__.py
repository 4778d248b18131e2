"""The kinds of heads, and those that are trained in torch."""
