"""A small real task: scanned digits, and a small network."""

BACKBONE = {"backbone": "timm:test_resnet", "weights": "random:1", "image_size": 32}
