"""What is wrong with a set of image files: each is read once, and nothing is written."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch.utils.data import Dataset

from stylex.data.classes import Classes
from stylex.data.datasets import check_shares
from stylex.data.labelling import Labelling, labelled
from stylex.data.labels import COLUMNS
from stylex.data.reading import read_each
from stylex.data.roots import open_source
from stylex.data.sources import Source
from stylex.data.splits import SPLITS
from stylex.imaging import BrokenImage, decode_whole

CORRUPT, SMALL, DUPLICATED = "corrupt", "too small", "duplicated"
KINDS = (CORRUPT, SMALL, DUPLICATED)


@dataclass(frozen=True)
class Image:
    """An image of the set.

    Attributes:
        file: Below the root.
        label: Name of its class.
        split: It belongs to.
    """

    file: str
    label: str
    split: str


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        kind: One of `KINDS`.
        detail: In words.
        images: That it is about.
    """

    kind: str
    detail: str
    images: tuple[Image, ...]


@dataclass(frozen=True)
class Survey:
    """What was read, and what is wrong with it.

    Attributes:
        root: Where the images lie.
        class_names: Name of every class.
        images: All that have a class.
        num_left_out: Images below the root that have none.
        num_groups: Groups (patients, specimens) that are named; each lies within one split.
        findings: Ordered by kind and file.
    """

    root: str
    class_names: tuple[str, ...]
    images: tuple[Image, ...]
    num_left_out: int
    num_groups: int
    findings: tuple[Finding, ...]

    @cached_property
    def counts(self) -> Counter[tuple[str, str]]:
        """Images of a class in a split, broken ones as well."""
        return Counter((image.label, image.split) for image in self.images)


def survey(
    *,
    root: str | Path,
    resolution: int | None,
    validation_share: float,
    test_share: float,
    seed: int,
    labels: str | Path | None = None,
    columns: Mapping[str, str | None] | None = None,
    classes: Classes | None = None,
    splits: Mapping[str, str] | None = None,
) -> Survey:
    """Reads every image that has a class, and compares them.

    Args:
        root: See `stylex.data.datasets.ImageFolder`, also for the others.
        resolution: Images with a side below it are too small; None takes any.
        validation_share: Share of the validation split.
        test_share: Share of the test split.
        seed: Of the split.
        labels: A CSV file, or None.
        columns: Of the CSV file.
        classes: Which labels are classes.
        splits: Folders that are splits.

    Raises:
        InputError: If the images cannot be labelled or split like that.
    """
    check_shares(validation_share, test_share)
    source = open_source(root)
    told = labelled(source, labels, columns or COLUMNS, classes, splits)
    parts = told.split({"validation": validation_share, "test": test_share}, seed)
    images = tuple(
        Image(record.name, told.class_names[told.taken[record.label]], parts[record.name])
        for record in told.records
    )
    found = list(zip(images, read_each(_Whole(source, told), "check"), strict=True))
    return Survey(
        root=str(root),
        class_names=told.class_names,
        images=images,
        num_left_out=len(source.members) - len(images),
        num_groups=len({record.group for record in told.records} - {None}),
        findings=(*_corrupt(found), *_small(found, resolution), *_duplicated(found)),
    )


@dataclass(frozen=True)
class Reading:
    """What is in a file.

    Attributes:
        fault: Why it cannot be decoded; empty if it can.
        content: Digest of its bytes.
        pixels: Digest of what they show.
        width: In pixels.
        height: In pixels.
    """

    fault: str
    content: str
    pixels: str
    width: int
    height: int


class _Whole(Dataset[Reading]):
    """Labelled images, each read when it is asked for."""

    def __init__(self, source: Source, told: Labelling) -> None:
        self.source, self.records = source, told.records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Reading:
        record = self.records[index]
        try:
            content = self.source.read(record.position)
            picture = decode_whole(content, record.name)
        except BrokenImage as error:
            return Reading(error.reason, "", "", 0, 0)
        except OSError as error:
            return Reading(error.strerror or "it cannot be read", "", "", 0, 0)
        except ValueError as error:
            return Reading(str(error), "", "", 0, 0)
        _, height, width = picture.shape
        shown = hashlib.sha256(f"{width}x{height} ".encode())
        shown.update(picture.numpy().tobytes())
        return Reading("", hashlib.sha256(content).hexdigest(), shown.hexdigest(), width, height)


Found = Iterable[tuple[Image, Reading]]


def _corrupt(found: Found) -> list[Finding]:
    return [Finding(CORRUPT, reading.fault, (image,)) for image, reading in found if reading.fault]


def _small(found: Found, resolution: int | None) -> list[Finding]:
    return [
        Finding(SMALL, f"{reading.width} x {reading.height} pixels", (image,))
        for image, reading in found
        if not reading.fault and min(reading.width, reading.height) < (resolution or 0)
    ]


def _duplicated(found: Found) -> list[Finding]:
    alike: dict[str, list[tuple[Image, Reading]]] = {}
    for image, reading in found:
        if not reading.fault:
            alike.setdefault(reading.pixels, []).append((image, reading))
    findings = []
    for pairs in alike.values():
        if len(pairs) < 2:
            continue
        images = tuple(image for image, _ in pairs)
        contents = {reading.content for _, reading in pairs}
        words = ["same bytes" if len(contents) == 1 else "same pixels"]
        splits = {image.split for image in images}
        if len(splits) > 1:
            words.append(f"in {' and '.join(split for split in SPLITS if split in splits)}")
        if len({image.label for image in images}) > 1:
            words.append("with different labels")
        findings.append(Finding(DUPLICATED, ", ".join(words), images))
    return findings
