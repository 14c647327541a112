"""Electroluminescence photographs of solar cells: intact or defective.

They belong to the package elpv-dataset (`pip install 'stylex[elpv]'`), which has them under CC
BY-NC-SA 4.0: neither they nor what is made of them, pictures and weights, may be used for money,
and what is shared must name the source and keep that licence. Nothing of it is shipped here.
Source: Deitsch et al. 2019, "Automatic classification of defective photovoltaic module cells in
    electroluminescence images" (arXiv:1807.02894).
"""

import logging
from importlib.util import find_spec
from pathlib import Path

import torch

from stylex.data.cache import cached
from stylex.data.datasets import ImageSet, check_form, check_shares
from stylex.data.labelling import Labelling, sound
from stylex.data.labels import Record
from stylex.data.roots import open_source
from stylex.data.sources import Source
from stylex.errors import InputError
from stylex.imaging import from_uint8
from stylex.types import Images, Labels

CLASSES = {0.0: "intact", 1.0: "defective"}  # by the probability of a defect that experts gave
NOTICE = (
    "elpv-dataset is under CC BY-NC-SA 4.0: no commercial use; weights and pictures made of it "
    "keep that licence"
)


class SolarCells(ImageSet):
    """The 2,223 cells that experts were sure of, 1,508 intact and 715 defective.

    Those of probability 1/3 and 2/3 are left out. Each class is split by itself; seed and file
    names decide. The package does not say which of its 44 modules a cell is of, so that cells of
    one module may be in several splits: figures on held-out images may flatter.

    Attributes:
        paths: Of every photograph, relative to the package's data.

    Args:
        split: "train", "validation" or "test".
        resolution: Height and width of the images, a power of two from 32 to 1024, in pixels; the
            photographs have 300.
        channels: 1 for grey, as they are, 3 for the same value in red, green and blue.
        validation_share: Share of the images of a class in the validation split, above 0.
        test_share: Share of the images of a class in the test split, above 0.
        seed: Another seed gives another split.
        cache: Folder of the resized images; None is `stylex` among the user's caches.

    Raises:
        InputError: If an argument is out of range, or the package is missing or broken.
    """

    def __init__(
        self,
        *,
        split: str,
        resolution: int,
        channels: int,
        validation_share: float,
        test_share: float,
        seed: int,
        cache: str | Path | None = None,
    ) -> None:
        check_form(split, resolution, channels)
        check_shares(validation_share, test_share)
        folder = _folder()
        source = open_source(folder)
        names = {name: k for k, name in enumerate(CLASSES.values())}
        told = Labelling(_certain(source, folder / "labels.csv"), tuple(names), names)
        parts = told.split({"validation": validation_share, "test": test_share}, seed)
        self._cache = cached(source, resolution, channels, None if cache is None else Path(cache))
        records = sound(source, told.records, self._cache.faults, "refuse")
        records = [record for record in records if parts[record.name] == split]
        records.sort(key=lambda record: (names[record.label], record.name))
        self.paths = [record.name for record in records]
        self._sizes = [source.members[record.position].size for record in records]
        self._rows = torch.tensor([record.position for record in records])
        super().__init__(
            class_names=told.class_names,
            labels=torch.tensor([names[record.label] for record in records]),
            split=split,
            resolution=resolution,
            channels=channels,
        )
        if split != "validation":  # which comes with train: once is enough
            logging.getLogger("stylex").info(NOTICE)

    def _images(self, positions: Labels) -> Images:
        return from_uint8(self._cache.rows(self._rows[positions]))

    def _content(self) -> bytes:
        facts = zip(self.paths, self._sizes, self.labels.tolist(), strict=True)
        return "\n".join(f"{path}\t{size}\t{label}" for path, size, label in facts).encode()


def _folder() -> Path:
    found = find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise InputError(
            "data=elpv needs the package elpv-dataset (CC BY-NC-SA 4.0), got none; pip install "
            "'stylex[elpv]'"
        )
    return Path(found.origin).parent / "data"


def _certain(source: Source, table: Path) -> list[Record]:
    """The cells whose probability of a defect is 0 or 1, in the order of the table.

    Raises:
        InputError: If the table cannot be read, has other columns, or names a file that is missing.
    """
    positions = {member.name: row for row, member in enumerate(source.members)}
    found = []
    try:
        for line in table.read_text().splitlines():
            path, text, _kind = line.split()
            label = CLASSES.get(float(text))
            if label is not None:
                found.append(Record(positions[path], path, label, None, None))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "elpv-dataset's labels.csv must have lines of a path, a probability and a kind, got "
            f"'{table}' ({error}); install the package again"
        ) from error
    return found
