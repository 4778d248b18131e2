"""Extract image features once, cache them safely, train heads on them in seconds."""
