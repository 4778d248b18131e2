"""Sources of backbones, one module per source."""
