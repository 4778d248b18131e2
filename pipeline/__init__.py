"""The stages, in the order data flows."""
