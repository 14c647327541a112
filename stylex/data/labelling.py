"""What images of a source are to be told apart: records, classes, splits; broken files left out."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stylex.data.classes import Classes, name_classes
from stylex.data.labels import Layout, Record, folder_records, noted_records, table_records
from stylex.data.sources import Source
from stylex.data.splits import draw_groups, draw_images
from stylex.errors import InputError, shown
from stylex.imaging import KINDS

NAMED = 5  # broken files that a sentence names


@dataclass(frozen=True)
class Labelling:
    """Images that have a class.

    Attributes:
        records: Of those images, by name.
        class_names: Name of every class.
        taken: Of each label its class.
    """

    records: list[Record]
    class_names: tuple[str, ...]
    taken: Mapping[str, int]

    def split(self, shares: Mapping[str, float], seed: int) -> dict[str, str]:
        """Gives every image, by its name, its split.

        Those of the shares' splits that no record names are drawn out of train: by group if there
        are groups, else class by class.

        Args:
            shares: Of validation and test.
            seed: Of the draw.

        Raises:
            InputError: If a group is in two splits, or none of the named ones is train.
        """
        self._check_groups()
        said = {record.name: record.split or "train" for record in self.records}
        named = {record.split for record in self.records} - {None}
        if named and "train" not in named:
            raise InputError(
                "splits that are named must have train among them, got "
                f"{', '.join(sorted(map(str, named)))} alone; name the images to train on"
            )
        missing = {split: share for split, share in shares.items() if split not in named}
        drawn = [record for record in self.records if said[record.name] == "train"]
        if any(record.group for record in drawn):
            # A name cannot be a group's: it begins with another character.
            groups = [f"={r.group}" if r.group else f"/{r.name}" for r in drawn]
            labels = [self.taken[record.label] for record in drawn]
            found = draw_groups(groups, labels, missing, seed)
            return said | {r.name: found[group] for r, group in zip(drawn, groups, strict=True)}
        for k in range(len(self.class_names)):
            own = [record.name for record in drawn if self.taken[record.label] == k]
            said |= draw_images(own, missing, seed)
        return said

    def _check_groups(self) -> None:
        seen: dict[str, Record] = {}
        for record in self.records:
            if record.group and record.split:
                first = seen.setdefault(record.group, record)
                if first.split != record.split:
                    raise InputError(
                        f"a group must lie within one split, got '{shown(record.group)}' in "
                        f"{first.split} ('{shown(first.name)}') and {record.split} "
                        f"('{shown(record.name)}'); move its images to one, or leave the splits out"
                    )


def labelled(
    source: Source,
    table: str | Path | None,
    columns: Mapping[str, str | None],
    classes: Classes | None,
    splits: Mapping[str, str] | None,
) -> Labelling:
    """Finds label and class of the images.

    Args:
        source: The images.
        table: A CSV file with the labels; None takes folders or notes.
        columns: Of the CSV file.
        classes: Which labels are classes.
        splits: Which folders are splits.

    Raises:
        InputError: If one of them does not fit the others.
    """
    layout = Layout(splits)
    if table is not None:
        records, num_bare = table_records(source, Path(str(table)), columns, layout)
        if num_bare:
            logging.getLogger("stylex").info(
                f"{num_bare} of {len(source.members)} images in {shown(source.root)} have no row "
                f"in {shown(str(table))} and are left out"
            )
    elif source.notes is not None:
        records = noted_records(source, layout)
    else:
        records = folder_records(source, layout, every_class=classes is None)
    numbered = table is not None or source.notes is not None
    names, taken = name_classes({record.label for record in records}, classes, numbered)
    return Labelling([record for record in records if record.label in taken], names, taken)


def sound(
    source: Source, records: Sequence[Record], faults: Mapping[int, str], on_error: str
) -> list[Record]:
    """The records of images that can be read.

    Args:
        source: The images.
        records: Of images that have a class.
        faults: Why images cannot be read, by position in the source.
        on_error: "refuse", or "skip" to name them in the log.

    Raises:
        InputError: If there are some and `on_error` is "refuse".
    """
    broken = [record for record in records if record.position in faults]
    if broken:
        some = [f"{source.place(r.name)} ({faults[r.position]})" for r in broken[:NAMED]]
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        if on_error == "refuse":
            raise InputError(
                f"images must be readable {KINDS} files, got {', '.join(some)}{more}: "
                f"replace or remove {'it' if len(broken) == 1 else 'them'}, or give "
                "data.on_error=skip to leave such files out"
            )
        logging.getLogger("stylex").info(
            f"{len(broken)} of {len(records)} images cannot be read and are left out: "
            f"{', '.join(some)}{more}" + (" (stylex.data.check names all)" if more else "")
        )
    return [record for record in records if record.position not in faults]


def check_on_error(on_error: str) -> None:
    """Refuses another word than the two.

    Raises:
        InputError: If it is neither "refuse" nor "skip".
    """
    if on_error not in ("refuse", "skip"):
        raise InputError(f"data.on_error must be refuse or skip, got '{shown(str(on_error))}'")
