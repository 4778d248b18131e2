"""Export of the vectors of a cache to the formats of other programs."""
