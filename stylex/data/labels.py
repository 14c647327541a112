"""Which label, group and split every image has: by its folder, by a table or by notes beside it."""

import csv
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from stylex.data.sources import Source
from stylex.data.splits import SPLITS
from stylex.errors import InputError, shown
from stylex.imaging import KINDS

COLUMNS = {"file": "file", "label": "label", "group": "group", "split": "split"}

SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


@dataclass(frozen=True, slots=True)
class Record:
    """What is said of an image.

    Attributes:
        position: In the source.
        name: Below the source's root.
        label: As it is called before classes are made of labels.
        group: Whose it is (a patient, a specimen), if that is said.
        split: Where it belongs, if that is said.
    """

    position: int
    name: str
    label: str
    group: str | None
    split: str | None


@dataclass(frozen=True)
class Layout:
    """Which folders are splits.

    Attributes:
        splits: Of every split its folder below the root, or a shell pattern of such; none if the
            folders are no splits.
    """

    splits: Mapping[str, str] | None

    def __post_init__(self) -> None:
        """Checks the splits' names."""
        if self.splits is None:
            return
        named = self.splits if isinstance(self.splits, Mapping) else {}
        wrong = [name for name, folder in named.items() if name not in SPLITS or not folder]
        if wrong or "train" not in named:
            raise InputError(
                "data.splits must name a folder for train and may for validation and test, got "
                f"{shown(str(self.splits))}; give for instance "
                "'data.splits={train: train, test: val}'"
            )

    def place(self, name: str) -> tuple[str | None, list[str]] | None:
        """The split that a path belongs to, and its parts below that split's folder.

        Returns:
            None if the folders are splits and the path lies in none of them.

        Raises:
            InputError: If it lies in two.
        """
        parts = name.split("/")
        if self.splits is None:
            return None, parts
        found = []
        for split, folder in self.splits.items():
            pattern = str(folder).strip("/")
            depth = pattern.count("/") + 1
            head = "/".join(parts[:depth])
            if head == pattern or fnmatchcase(head, pattern):
                found.append((split, parts[depth:]))
        if len(found) > 1:
            raise InputError(
                f"data.splits must be folders apart, got '{shown(name)}' in {found[0][0]} and "
                f"{found[1][0]}; correct the folders"
            )
        return found[0] if found else None


def folder_records(source: Source, layout: Layout, every_class: bool) -> list[Record]:
    """Labels every image with the folder that it lies in, the first one below the root or split.

    Args:
        source: The images.
        layout: Which folders are splits.
        every_class: Whether all folders are classes, so that none may be empty.

    Raises:
        InputError: If there are fewer than two class folders, or one has no images.
    """
    records = []
    for position, member in enumerate(source.members):
        placed = layout.place(member.name)
        if placed is not None and len(placed[1]) > 1:  # else beside the class folders
            records.append(Record(position, member.name, placed[1][0], None, placed[0]))
    if not every_class:
        return records
    filled = {record.label for record in records}
    places = (layout.place(folder) for folder in source.folders)
    labels = filled | {place[1][0] for place in places if place is not None and place[1]}
    root = shown(source.root)
    if layout.splits is not None:
        root = f"{shown(', '.join(map(str, layout.splits.values())))} of {root}"
    if len(labels) < 2:
        raise InputError(
            "root must have at least two sub-folders, one a class, got "
            f"{len(labels)} in {root}: sort the images into class folders"
        )
    if layout.splits is None and {label.lower() for label in labels} <= SPLIT_FOLDERS:
        raise InputError(
            "data.splits must say which sub-folders are splits already, got "
            f"{', '.join(sorted(labels))} in {root}, which look like it; give "
            "'data.splits={train: train, test: test}', or rename them if they are classes"
        )
    for empty in sorted(labels - filled):
        raise InputError(
            f"a folder of images must hold {KINDS} files, got none in "
            f"{shown(source.root)}/{shown(empty)}: add images or remove the folder"
        )
    return records


def noted_records(source: Source, layout: Layout) -> list[Record]:
    """Labels every sample of WebDataset shards with what lies beside its image.

    Raises:
        InputError: If nothing does for some.
    """
    assert source.notes is not None
    records, bare = [], []
    for position, member in enumerate(source.members):
        placed = layout.place(member.name)
        if placed is None:
            continue
        note = source.notes.get(member.name)
        if note is None:
            bare.append(member.name)
        else:
            records.append(Record(position, member.name, note.label, note.group, placed[0]))
    if bare:
        raise InputError(
            "every sample of WebDataset shards needs a label beside its image (KEY.cls, or label "
            f"in KEY.json), got none for {len(bare)}, the first of them "
            f"{source.place(bare[0])}; add them or give data.labels=FILE.csv"
        )
    return records


def table_records(
    source: Source, path: Path, columns: Mapping[str, str | None], layout: Layout
) -> tuple[list[Record], int]:
    """Labels images with the rows of a CSV file, whose first line names the columns.

    Args:
        source: The images; those without a row are left out.
        path: The CSV file, UTF-8.
        columns: Names of the columns `file`, `label`, `group` and `split`. The last two may be
            missing under these names; another name promises that the column is there.
        layout: Which folders are splits.

    Returns:
        The records, and how many images have no row.

    Raises:
        InputError: If the file is no such table.
    """
    where = f"'{shown(str(path))}'"
    rows = _rows(path, where)
    header = next(rows, (1, []))[1]
    chosen = _chosen_columns(header, columns, where)
    if layout.splits is not None and "split" in chosen:
        raise InputError(
            f"splits must be said once, got data.splits and a column '{columns['split']}' in "
            f"{where}; give 'data.columns.split=null' or data.splits=null"
        )
    positions = {member.name: position for position, member in enumerate(source.members)}
    records: dict[str, Record] = {}
    for line, row in rows:
        cells = {key: row[i].strip() if i < len(row) else "" for key, i in chosen.items()}
        name = _checked(cells, line, positions, records, source, where)
        placed = layout.place(name)
        if placed is None:
            continue
        split = cells["split"] if "split" in cells else placed[0]
        group = cells.get("group") or None
        records[name] = Record(positions[name], name, cells["label"], group, split)
    _check_groups(list(records.values()), where)
    if not records:
        raise InputError(f"data.labels must have rows of images, got none in {where}; add them")
    found = sorted(records.values(), key=lambda record: record.position)
    return found, len(positions) - len(found)


def _check_groups(records: Sequence[Record], where: str) -> None:
    """Refuses that some images have a group and others none: nobody would know whose those are."""
    bare = [record.name for record in records if record.group is None]
    if bare and len(bare) < len(records):
        raise InputError(
            f"each image must have a group where some have one, got none for {len(bare)} of "
            f"{len(records)} in {where}, the first of them '{shown(bare[0])}'; fill the column (a "
            "group of its own, if an image is nobody's), or give data.columns.group=null to split "
            "image by image"
        )


def _rows(path: Path, where: str) -> Iterator[tuple[int, list[str]]]:
    """The lines that are not empty, with their numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            yield from ((reader.line_num, row) for row in reader if any(row))
    except UnicodeDecodeError as error:
        raise InputError(
            f"data.labels must be a CSV file in UTF-8, got another encoding in {where} (byte "
            f"{error.start}); save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise InputError(f"data.labels must be a CSV file, got {error} in {where}") from error
    except OSError as error:
        raise InputError(
            f"data.labels must be a CSV file that can be read, got {where} ({error.strerror}); "
            "correct the path"
        ) from error


def _chosen_columns(
    header: Sequence[str], columns: Mapping[str, str | None], where: str
) -> dict[str, int]:
    """Position of each column that is there."""
    unknown = [key for key in columns if key not in COLUMNS]
    if unknown:
        raise InputError(
            f"data.columns must name {', '.join(COLUMNS)}, got '{shown(str(unknown[0]))}'"
        )
    names = [name.strip() for name in header]
    chosen = {}
    for key, default in COLUMNS.items():
        column = columns.get(key, default)
        needed = key in ("file", "label")
        if column is None and not needed:
            continue
        if str(column) in names:
            if names.count(str(column)) > 1:
                raise InputError(
                    f"a column of data.labels must be there once, got '{shown(str(column))}' "
                    f"{names.count(str(column))} times in {where}"
                )
            chosen[key] = names.index(str(column))
        elif not needed and column == default and (alike := _alike(default, names)):
            raise InputError(
                f"data.labels may have a column '{default}' ({key}), got '{shown(alike)}' in "
                f"{where}; give data.columns.{key}={shown(alike)} to use it, or "
                f"data.columns.{key}=null to pass over it"
            )
        elif needed or column != default:
            raise InputError(
                f"data.labels must have the column '{shown(str(column))}' ({key}), got "
                f"{shown(', '.join(names)) or 'no line'} in {where}; name it in the first line or "
                f"give data.columns.{key}=NAME"
            )
    return chosen


def _alike(default: str, names: Sequence[str]) -> str:
    """A column that is called the same but for its letters' case, or in the plural."""
    return next((n for n in names if n.lower() in (default, f"{default}s")), "")


def _checked(
    cells: Mapping[str, str],
    line: int,
    positions: Mapping[str, int],
    records: Mapping[str, Record],
    source: Source,
    where: str,
) -> str:
    """The file that a row is about."""
    name = cells["file"].removeprefix("./")
    at = f"in line {line} of {where}"
    if name not in positions:
        near = difflib.get_close_matches(name, list(positions)[:10_000], 1, 0.6)
        remedy = f"did you mean '{shown(near[0])}'?" if near else "correct it or remove the row"
        raise InputError(
            f"a file of data.labels must be a {KINDS} file below "
            f"{shown(source.root)}, got '{shown(name)}' {at}; {remedy}"
        )
    if name in records:
        raise InputError(
            f"a file must have one row in data.labels, got another of '{shown(name)}' {at}; "
            "remove one"
        )
    if not cells["label"]:
        raise InputError(
            f"a label must not be empty, got none for '{shown(name)}' {at}; give one or remove "
            "the row"
        )
    if cells.get("split", "train") not in SPLITS:
        raise InputError(
            f"a split must be train, validation or test, got '{shown(cells['split'])}' {at}; "
            "correct it"
        )
    return name
