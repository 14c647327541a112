"""Where images lie: a source lists them without decoding and gives the bytes of each."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stylex.errors import InputError, shown
from stylex.imaging import SUFFIXES

LONGEST = 1024  # letters of a file's name with its folders


@dataclass(frozen=True, slots=True)
class Member:
    """One image file.

    Attributes:
        name: Where it lies below the root, with forward slashes.
        size: In bytes, as it is decoded.
        stamp: A text that is another one when the content is.
    """

    name: str
    size: int
    stamp: str


@dataclass(frozen=True, slots=True)
class Note:
    """What a WebDataset says of a sample beside the image.

    Attributes:
        label: Of the sample.
        group: Whose it is (a patient, a specimen), if that is said.
    """

    label: str
    group: str | None


class Source(ABC):
    """Images that lie together.

    Attributes:
        root: What the user named.
        members: The images, by name.
        folders: Folders below the root in which they may lie, empty ones as well.
        notes: Labels that lie beside the images, by name; none if the folders say them.
    """

    def __init__(
        self,
        root: str,
        members: list[Member],
        folders: frozenset[str] = frozenset(),
        notes: Mapping[str, Note] | None = None,
    ) -> None:
        self.root, self.folders, self.notes = root, folders, notes
        self.members = sorted(members, key=lambda member: member.name)

    @cached_property
    def listing(self) -> str:
        """SHA-256, in hex, of all names, sizes and stamps: what a cache of the images is of."""
        found = hashlib.sha256()
        for member in self.members:
            found.update(f"{member.name}\0{member.size}\0{member.stamp}\n".encode())
        return found.hexdigest()

    @abstractmethod
    def read(self, position: int) -> bytes:
        """Gives the bytes of one image.

        Args:
            position: In `members`.

        Raises:
            OSError: If they cannot be read.
            ValueError: If they are not what the listing says.
        """

    def place(self, name: str) -> str:
        """Where a person finds an image."""
        return shown(f"{self.root}/{name}")


class Folder(Source):
    """Image files below a folder, by their endings; hidden files and folders are passed over.

    Raises:
        InputError: If a name is no valid text.
    """

    def __init__(self, root: Path) -> None:
        folders: set[str] = set()
        members = []
        for entry, name in _walk(root, "", set()):
            check_name(name, shown(str(root)))
            if entry.is_dir():
                folders.add(name)
            else:
                facts = entry.stat()
                members.append(Member(name, facts.st_size, str(facts.st_mtime_ns)))
        super().__init__(str(root), members, frozenset(folders))

    def read(self, position: int) -> bytes:
        """Gives the bytes of one image."""
        return (Path(self.root) / self.members[position].name).read_bytes()


def is_image(name: str) -> bool:
    """Whether a path below a root names an image file, with no part of it hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".") and "/." not in name


def _walk(folder: Path, below: str, seen: set[str]) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Folders and image files, depth first, following links but never in a circle."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    seen.add(real)
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        if entry.name.startswith("."):
            continue
        name = f"{below}{entry.name}"
        try:
            is_folder = entry.is_dir()
        except OSError:  # a link to itself, as one to nothing
            continue
        if is_folder:
            yield entry, name
            yield from _walk(folder / entry.name, f"{name}/", seen)
        elif is_image(entry.name) and entry.is_file():
            yield entry, name


def check_name(name: str, where: str) -> None:
    """Refuses a path that no text file could hold.

    Raises:
        InputError: If it is not valid UTF-8, or longer than any file system's.
    """
    if len(name) > LONGEST:
        raise InputError(
            f"names of files must have at most {LONGEST} letters, got {len(name)} in {where}: "
            "rename it"
        )
    if name.isprintable():
        return
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"names of files must be valid UTF-8, got '{shown(name)}' in {where}: rename it"
        ) from error
