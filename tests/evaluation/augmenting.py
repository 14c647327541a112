"""A small image set in memory, for the tiny model of 16 px and three classes."""

from collections.abc import Sequence

import torch

from stylex.data.datasets import ImageSet
from stylex.types import Images, Labels

CLASSES = ("circle", "square", "star")


class Held(ImageSet):
    """Images held in memory."""

    def __init__(
        self,
        images: Images,
        labels: Sequence[int],
        split: str = "train",
        class_names: tuple[str, ...] = CLASSES,
    ) -> None:
        super().__init__(
            class_names=class_names,
            labels=torch.tensor(labels),
            split=split,
            resolution=images.shape[2],
            channels=images.shape[1],
        )
        self.held = images

    def _images(self, positions: Labels) -> Images:
        return self.held[positions]

    def _content(self) -> bytes:
        return self.held.numpy().tobytes()
