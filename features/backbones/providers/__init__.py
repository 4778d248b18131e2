"""Where backbones come from, one module per provider."""
