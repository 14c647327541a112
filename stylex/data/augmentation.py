"""Training images joined by others of the same classes, such as counterfactuals of them.

The others lie in a folder with one sub-folder a class; who wrote them does not matter.
"""

from pathlib import Path

import torch

from stylex.data.cache import cached
from stylex.data.datasets import ImageSet
from stylex.data.folders import class_folders, image_paths
from stylex.data.sources import Folder
from stylex.errors import InputError
from stylex.imaging import KINDS, from_uint8
from stylex.types import Images, Labels


class AugmentedSet(ImageSet):
    """Training images, followed by those of a folder.

    Every image counts once: a folder with as many images as there are training images is half of
    what is trained on. The folder's images are cut and resized to the form of the others.

    Attributes:
        num_added: Images that the folder adds; they are the last.

    Args:
        images: The training images, which stay as they are.
        folder: Has one sub-folder a class, of the same names.
        cache: Where its resized images are kept; None is `stylex` among the user's caches.

    Raises:
        InputError: If the folder's classes are others, or one is empty, or a file is broken.
        ValueError: If the images are not a train split: nothing may be judged on changed images.
    """

    def __init__(self, images: ImageSet, folder: Path, cache: Path | None = None) -> None:
        if images.split != "train":
            raise ValueError(f"only a train split can be augmented, got {images.split}")
        self._images_before, self._folder = images, folder
        self._paths, labels = _read_folder(folder, images.class_names)
        source = Folder(folder)
        self._cache = cached(source, images.resolution, images.channels, cache)
        for position, reason in self._cache.faults.items():
            raise InputError(
                f"images must be readable {KINDS} files, got "
                f"{source.place(source.members[position].name)} ({reason}): replace or remove it"
            )
        rows = {member.name: position for position, member in enumerate(source.members)}
        self._rows = torch.tensor([rows[path] for path in self._paths])
        self.num_added = len(labels)
        super().__init__(
            class_names=images.class_names,
            labels=torch.cat((images.labels, labels)),
            split=images.split,
            resolution=images.resolution,
            channels=images.channels,
        )

    def _images(self, positions: Labels) -> Images:
        count = len(self._images_before)
        added = positions >= count
        images = torch.empty(len(positions), self.channels, self.resolution, self.resolution)
        if not added.all():
            images[~added] = self._images_before.batch(positions[~added].tolist())[0]
        if added.any():
            images[added] = from_uint8(self._cache.rows(self._rows[positions[added] - count]))
        return images

    def _content(self) -> bytes:
        lines = "\n".join(f"{p}\t{(self._folder / p).stat().st_size}" for p in self._paths)
        return f"{self._images_before.fingerprint}\n{lines}".encode()


def _read_folder(folder: Path, class_names: tuple[str, ...]) -> tuple[list[str], Labels]:
    """Lists a folder's images, relative to it, with the labels that their sub-folders say."""
    found = {entry.name: entry for entry in class_folders(folder, "data.augmentation")}
    if set(found) != set(class_names):
        raise InputError(
            f"data.augmentation must have the data's classes as sub-folders "
            f"({', '.join(class_names)}), got {', '.join(found)} in {folder}; give a set that was "
            "made for this data"
        )
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        own = image_paths(folder, found[name])
        paths += own
        labels += [label] * len(own)
    return paths, torch.tensor(labels, dtype=torch.int64)
