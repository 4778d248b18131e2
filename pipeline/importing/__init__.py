"""Import vectors that were computed elsewhere, from files of many formats."""
