"""Images whose labels say nothing about them: what a classifier can only learn by heart.

Source: the label randomisation test of Adebayo et al. 2018 (arXiv:1810.03292).
"""

import torch

from stylex.data.datasets import ImageSet
from stylex.types import Images, Labels


class PermutedLabels(ImageSet):
    """The images of another set, its labels permuted once; every class keeps its number of images.

    Args:
        images: The other set, which stays as it is.
        seed: Of the permutation.
    """

    def __init__(self, images: ImageSet, *, seed: int) -> None:
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        super().__init__(
            class_names=images.class_names,
            labels=images.labels[order],
            split=images.split,
            resolution=images.resolution,
            channels=images.channels,
        )
        self._permuted, self._seed = images, seed

    def _images(self, positions: Labels) -> Images:
        return self._permuted.batch(positions.tolist())[0]

    def _content(self) -> bytes:
        return f"{self._permuted.fingerprint} labels permuted, seed {self._seed}".encode()
