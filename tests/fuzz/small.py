"""A model of 32 px, three channels and three classes, as small as one can be."""

from typing import Any

CLASSES = ["circle", "square", "star"]
WIDTH = {"channel_base": 64, "channel_max": 8}
CLASSIFIER: dict[str, Any] = {
    "network": "stylex.classifier.backbones:SmallCNN",
    "arguments": {"channels": 3, "num_classes": None, "width": 2, "dropout": 0.2},
    "weights": None,
    "input_resolution_px": 32,
    "input_channels": 3,
    "input_range": [-1.0, 1.0],
    "mean": [0.0],
    "std": [1.0],
    "feature_layers": ["stage1", "stage2", "stage3"],
}
MODEL: dict[str, Any] = {
    "resolution_px": 32,
    "channels": 3,
    "latent_dim": 4,
    "mapping_layers": 2,
    "appended": "softmax",
    "generator": {**WIDTH, "noise": True},
    "encoder": dict(WIDTH),
    "discriminator": {**WIDTH, "minibatch_group": 2},
}
