"""Natural photographs that other packages ship, labelled with ImageNet's classes: for looking at.

Of scikit-image (mostly CC0 or public domain) and scikit-learn (two, CC BY 2.0). They are read from
the installed packages and are no part of this one. Too few to measure anything by.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torchvision.models import EfficientNet_B0_Weights

from stylex.data.datasets import ImageSet, check_form
from stylex.errors import InputError
from stylex.imaging import from_uint8, read_image
from stylex.types import Images, Labels

# Package, file in it, and the class that a person would choose.
PHOTOGRAPHS = (
    ("skimage", "data/chelsea.png", "Egyptian cat"),
    ("skimage", "data/coffee.png", "espresso"),
    ("skimage", "data/rocket.jpg", "missile"),
    ("skimage", "data/motorcycle_left.png", "moped"),
    ("sklearn", "datasets/images/flower.jpg", "daisy"),
    ("sklearn", "datasets/images/china.jpg", "palace"),
    ("skimage", "data/astronaut.png", "space shuttle"),
    ("skimage", "data/camera.png", "tripod"),
    ("skimage", "data/brick.png", "stone wall"),
    ("skimage", "data/motorcycle_right.png", "moped"),
)
PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


class Photographs(ImageSet):
    """Ten photographs, the largest centred square of each; all of them are the test split."""

    def __init__(self, *, split: str, resolution: int, channels: int) -> None:
        """Finds the files.

        Args:
            split: "test"; there are no others.
            resolution: Height and width of the images, in pixels.
            channels: 1 for grey, 3 for RGB.

        Raises:
            InputError: If another split is asked for or a package is missing.
        """
        check_form(split, resolution, channels)
        if split != "test":
            raise InputError(
                f"the shipped photographs are a test split alone, got {split}; train on data=folder"
            )
        class_names = tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])
        self.paths = [_folder(package) / file for package, file, _ in PHOTOGRAPHS]
        super().__init__(
            class_names=class_names,
            labels=torch.tensor([class_names.index(name) for _, _, name in PHOTOGRAPHS]),
            split=split,
            resolution=resolution,
            channels=channels,
        )

    def _images(self, positions: Labels) -> Images:
        pixels = [
            read_image(self.paths[i], self.resolution, self.channels) for i in positions.tolist()
        ]
        return from_uint8(torch.stack(pixels))

    def _content(self) -> bytes:
        lines = [f"{path.name}\t{path.stat().st_size}" for path in self.paths]
        return "\n".join(lines).encode()


def _folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise InputError(
            f"the shipped photographs need {PACKAGES[package]}, got none; pip install "
            "'stylex[attribution]' or give your own images"
        )
    return Path(found.origin).parent
