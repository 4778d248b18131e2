"""Options of what learns: the division of rows, the kinds of heads, and the training of networks."""
