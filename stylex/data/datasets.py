"""Labelled image sets: the embedded part of Fashion-MNIST, and files in folders and archives.

They give square images in [-1, 1] and split themselves, always in the same way, into train,
validation and test.
"""

import hashlib
import lzma
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from stylex.data.cache import cached
from stylex.data.classes import Classes
from stylex.data.labelling import check_on_error, labelled, sound
from stylex.data.labels import COLUMNS
from stylex.data.roots import open_source
from stylex.data.splits import SPLITS
from stylex.errors import InputError, shown
from stylex.imaging import check_channels, check_resolution, from_uint8, resize
from stylex.types import Images, Labels, Pixels

_FASHION_MNIST = Path(__file__).parent / "assets" / "fashion_mnist"
_FASHION_RANGES = {"train": (0, 18_000), "validation": (18_000, 20_000), "test": (0, 2_000)}
_FASHION_CLASSES = (
    *("T-shirt", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


class ImageSet(Dataset[tuple[Tensor, int]], ABC):
    """Images of one split, with labels.

    Attributes:
        class_names: Name of every class; a label is a position in it.
        labels: Label of every image.
        split: "train", "validation" or "test".
        resolution: Height and width of the images, in pixels.
        channels: 1 for grey, 3 for RGB.
    """

    def __init__(
        self,
        *,
        class_names: tuple[str, ...],
        labels: Labels,
        split: str,
        resolution: int,
        channels: int,
    ) -> None:
        self.class_names = class_names
        self.labels = labels
        self.split = split
        self.resolution = resolution
        self.channels = channels

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c h w"], int]:
        """Returns one image in [-1, 1] and its label."""
        images, labels = self.batch([index])
        return images[0], int(labels[0])

    def batch(self, indices: Sequence[int]) -> tuple[Images, Labels]:
        """Gives several images at once.

        Args:
            indices: Positions in the set, in any order, with or without repetition.

        Returns:
            The images in [-1, 1] and their labels, in the order of `indices`.

        Raises:
            IndexError: If an index is no position in the set.
        """
        positions = torch.tensor(list(indices), dtype=torch.int64)
        labels = self.labels[positions]  # raises IndexError before any image is read
        return self._images(positions), labels

    def packed(self, indices: Sequence[int]) -> tuple[Images | Pixels, Labels]:
        """As `batch`, but in 8-bit pixels if the set keeps such: a quarter of the bytes to move.

        `stylex.imaging.from_uint8` makes images of them, best on the device that needs them.
        """
        return self.batch(indices)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of what the set contains and how it is cut to size."""
        form = f"{self.split} {self.resolution} {self.channels} "
        return hashlib.sha256(form.encode() + self._content()).hexdigest()

    @abstractmethod
    def _images(self, positions: Labels) -> Images:
        """Gives the images at some positions, all of them valid."""

    @abstractmethod
    def _content(self) -> bytes:
        """Describes the source of the images and labels for the fingerprint."""


class FashionMNIST(ImageSet):
    """20,000 training and 2,000 test images of Fashion-MNIST, which come with the package.

    The last 2,000 of the training images are the validation split, the other 18,000 the train
    split. The classes alternate, so that every prefix of a split is balanced. The 28 px images
    get a black border of 2 px; other resolutions than 32 are resized from that.

    Source: Xiao, Rasul and Vollgraf 2017, "Fashion-MNIST" (arXiv:1708.07747).

    Args:
        split: "train", "validation" or "test".
        resolution: Height and width of the images, a power of two from 32 to 1024, in pixels.
        channels: 1 for grey, 3 for the same value in red, green and blue.

    Raises:
        InputError: If an argument has another value than these.
    """

    def __init__(self, *, split: str, resolution: int, channels: int) -> None:
        check_form(split, resolution, channels)
        self._part = "test" if split == "test" else "train"
        pixels = _read_idx(_FASHION_MNIST / f"{self._part}-images-idx3-ubyte.xz")
        labels = _read_idx(_FASHION_MNIST / f"{self._part}-labels-idx1-ubyte.xz")
        start, stop = _FASHION_RANGES[split]
        self._pixels = F.pad(pixels[start:stop], (2, 2, 2, 2)).unsqueeze(1)  # [n 1 32 32]
        super().__init__(
            class_names=_FASHION_CLASSES,
            labels=labels[start:stop].to(torch.int64),
            split=split,
            resolution=resolution,
            channels=channels,
        )

    def _images(self, positions: Labels) -> Images:
        images = resize(from_uint8(self._pixels[positions]), self.resolution)
        return images.repeat(1, self.channels, 1, 1)

    def _content(self) -> bytes:
        return b"".join(
            file.read_bytes() for file in sorted(_FASHION_MNIST.glob(f"{self._part}-*.xz"))
        )


class ImageFolder(ImageSet):
    """PNG, JPEG, WebP, TIFF and BMP files in a folder, a zip file or WebDataset shards.

    Unless told otherwise, classes are the sub-folders in the order of their names, and every class
    is split by itself: which images fall into a split follows from the seed and the paths relative
    to `root` alone, and a class of three or more images is present in every split. Images with
    groups are split by group. Every image is decoded and resized once (see `stylex.data.cache`).

    Attributes:
        root: The folder or archive.
        paths: Of every image, relative to `root`, with forward slashes.
        groups: Of every image, None for those without one.

    Args:
        root: A folder, a .zip file of one, a folder of .tar files or a pattern of such.
        split: "train", "validation" or "test".
        resolution: Height and width of the images, a power of two from 32 to 1024, in pixels.
        channels: 1 for grey, 3 for RGB.
        validation_share: Share of the images of a class in the validation split, above 0.
        test_share: Share of the images of a class in the test split, above 0.
        seed: Another seed gives another split.
        labels: A CSV file; None takes the folder that an image lies in or, of WebDataset samples,
            what lies beside it.
        columns: Names of the CSV file's columns (see `stylex.data.labels.table_records`).
        classes: Which labels are classes (see `stylex.data.classes.name_classes`).
        splits: Folders below `root` that are splits; those of the three that neither it nor the
            CSV file names are taken out of train by the shares.
        on_error: "refuse", or "skip" to name broken files in the log and leave them out.
        cache: Folder of the resized images; None is `stylex` among the user's caches.

    Raises:
        InputError: If an argument is out of range, the folder or table does not look like that, a
            group is in two splits, or a file is broken.
    """

    def __init__(
        self,
        *,
        root: str | Path,
        split: str,
        resolution: int,
        channels: int,
        validation_share: float,
        test_share: float,
        seed: int,
        labels: str | Path | None = None,
        columns: Mapping[str, str | None] | None = None,
        classes: Classes | None = None,
        splits: Mapping[str, str] | None = None,
        on_error: str = "refuse",
        cache: str | Path | None = None,
    ) -> None:
        check_form(split, resolution, channels)
        check_shares(validation_share, test_share)
        check_on_error(on_error)
        self.root = Path(str(root))
        source = open_source(root)
        told = labelled(source, labels, columns or COLUMNS, classes, splits)
        parts = told.split({"validation": validation_share, "test": test_share}, seed)
        self._cache = cached(
            source, resolution, channels, None if cache is None else Path(str(cache))
        )
        records = sound(source, told.records, self._cache.faults, on_error)
        records = [record for record in records if parts[record.name] == split]
        records.sort(key=lambda record: (told.taken[record.label], record.name))
        if not records:
            groups = {record.group for record in told.records} - {None}
            raise InputError(
                f"each split needs images, got none for {split} from {shown(str(root))}: "
                + (
                    f"all images are of {len(groups)} groups, which are not divided; give more"
                    if 0 < len(groups) < 3
                    else "give each class three images or more"
                )
            )
        self.paths = [record.name for record in records]
        self.groups = [record.group for record in records]
        self._sizes = [source.members[record.position].size for record in records]
        self._rows = torch.tensor([record.position for record in records])
        self._by_folder = source.notes is None and labels is None and classes is None
        super().__init__(
            class_names=told.class_names,
            labels=torch.tensor([told.taken[record.label] for record in records]),
            split=split,
            resolution=resolution,
            channels=channels,
        )

    def packed(self, indices: Sequence[int]) -> tuple[Pixels, Labels]:
        """Gives several images as 8-bit pixels, and their labels."""
        positions = torch.tensor(list(indices), dtype=torch.int64)
        return self._cache.rows(self._rows[positions]), self.labels[positions]

    def _images(self, positions: Labels) -> Images:
        return from_uint8(self._cache.rows(self._rows[positions]))

    def _content(self) -> bytes:
        facts = zip(self.paths, self._sizes, self.labels.tolist(), strict=True)
        lines = sorted(f"{path}\t{size}\t{label}" for path, size, label in facts)
        if not self._by_folder:  # else the paths say the classes' names
            lines.append(repr(self.class_names))
        return "\n".join(lines).encode()


def check_form(split: str, resolution: int, channels: int) -> None:
    """Refuses what no image set can be.

    Raises:
        InputError: If the split, the resolution or the number of channels is none.
    """
    if split not in SPLITS:
        raise InputError(f"split must be train, validation or test, got {split}")
    check_resolution(resolution)
    check_channels(channels)


def check_shares(validation_share: float, test_share: float) -> None:
    """Refuses shares that leave a split without images.

    Raises:
        InputError: If one is not above 0, or their sum not below 1.
    """
    if validation_share <= 0 or test_share <= 0 or validation_share + test_share >= 1:
        raise InputError(
            "validation_share and test_share must be above 0 and their sum below 1, "
            f"got {validation_share} and {test_share}"
        )


def _read_idx(path: Path) -> Tensor:
    """Reads an xz-compressed idx file of bytes (magic number 0, 0, 8, number of axes)."""
    content = lzma.decompress(path.read_bytes())
    num_axes = content[3]
    shape = np.frombuffer(content, ">u4", count=num_axes, offset=4).astype(np.int64)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * num_axes)
    return torch.from_numpy(values.reshape(shape).copy())
