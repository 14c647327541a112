"""Images in the tar files of a WebDataset, read where they lie."""

import json
import re
import tarfile
from pathlib import Path

from stylex.data.limits import LIMITS, Limits, check_count, check_names, check_size, cut
from stylex.data.sources import Member, Note, Source
from stylex.errors import InputError, shown
from stylex.imaging import SUFFIXES

MOST = 100_000  # shards of a pattern
LABEL_BYTES = 2**20  # of a sample's .cls or .json


class Tars(Source):
    """Images of WebDataset shards: KEY.jpg (or another image) with KEY.cls or KEY.json beside it.

    An image is named by its shard and its path in it. `KEY.cls` holds the label; `KEY.json` holds
    it as `label`, and may hold a `group`.

    Args:
        root: What the user named.
        base: The folder that names of shards begin below.
        shards: The tar files, uncompressed.
        limits: What all of them may hold.

    Raises:
        InputError: If one is no tar file, or not safe.
    """

    def __init__(self, root: str, base: Path, shards: list[Path], limits: Limits = LIMITS) -> None:
        self._base = base
        self._places: dict[str, tuple[Path, int, int]] = {}
        notes: dict[str, Note] = {}
        members: list[Member] = []
        count = 0
        for shard in shards:
            found = _listed(shard, limits, count)
            count += len(found)
            own = shard.relative_to(base).as_posix()
            facts = shard.stat()
            for key, parts in _samples(found, shard).items():
                image = parts["image"]
                name = f"{own}/{image.name.removeprefix('./')}"
                self._places[name] = (shard, image.offset_data, image.size)
                stamp = f"{image.offset_data} {image.mtime} {facts.st_size} {facts.st_mtime_ns}"
                members.append(Member(name, image.size, stamp))
                note = _note(shard, key, parts)
                if note is not None:
                    notes[name] = note
        super().__init__(root, members, notes=notes)

    def read(self, position: int) -> bytes:
        """Gives the bytes of one image."""
        return cut(*self._places[self.members[position].name])

    def place(self, name: str) -> str:
        """Where a person finds an image."""
        return shown(f"{self._base}/{name}")


def open_shards(path: Path) -> Tars:
    """Lists the images of a tar file, or of those that a pattern such as `{000..099}.tar` names.

    Raises:
        InputError: If one of them is not there or not safe, or there are too many.
    """
    found = [path] if path.is_file() else [Path(name) for name in _expanded(str(path))]
    base = path.parent
    while not path.is_file() and "{" in str(base):
        base = base.parent
    for shard in found:
        if not shard.is_file():
            raise InputError(
                f"every shard must be there, got no file {shown(str(shard))} of "
                f"{shown(str(path))}; correct the pattern"
            )
    return Tars(str(path), base, found)


def _expanded(pattern: str) -> list[str]:
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if match is None:
        return [pattern]
    first, last, listed = match.groups()
    if listed is None:
        if not int(first) <= int(last) < int(first) + MOST:
            raise InputError(
                f"a pattern of shards must count upwards over at most {MOST:,} files, got "
                f"'{shown(pattern)}'"
            )
        width = len(first)
        parts = [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
    else:
        parts = listed.split(",")
    before, after = pattern[: match.start()], _expanded(pattern[match.end() :])
    if len(parts) * len(after) > MOST:
        raise InputError(
            f"a pattern of shards must name at most {MOST:,} files, got '{shown(pattern)}'"
        )
    return [f"{before}{part}{rest}" for part in parts for rest in after]


def _listed(shard: Path, limits: Limits, before: int) -> list[tarfile.TarInfo]:
    """The members of a shard, all of them checked."""
    where = shown(str(shard))
    found: list[tarfile.TarInfo] = []
    try:
        end = shard.stat().st_size
        with tarfile.open(shard, "r:") as file:
            for info in file:
                check_count(before + len(found) + 1, limits, where)
                if not (info.isreg() or info.isdir()) or info.issparse():
                    raise InputError(
                        "the members of a tar file must be plain files and folders, got "
                        f"'{shown(info.name)}', which is a link or a device, in {where}; make the "
                        "archive anew"
                    )
                check_size(info.name, info.size, limits, where)
                if not 0 <= info.size <= end - info.offset_data:
                    raise tarfile.ReadError("a member ends outside the file")
                found.append(info)
    except InputError:
        raise
    except Exception as error:  # of many kinds where the file is broken
        raise InputError(
            f"shards must be whole, uncompressed tar files, got {where} ({shown(str(error))})"
        ) from error
    check_names((info.name for info in found), where)
    return found


def _samples(members: list[tarfile.TarInfo], shard: Path) -> dict[str, dict[str, tarfile.TarInfo]]:
    """The samples that have an image: by key, its parts `image`, `cls` and `json`."""
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    for info in members:
        folder, _, base = info.name.removeprefix("./").rpartition("/")
        stem, _, suffix = base.partition(".")
        if not info.isreg() or not stem or f"/{folder}".find("/.") >= 0:
            continue
        part = "image" if f".{suffix.lower()}" in SUFFIXES else suffix.lower()
        if part not in ("image", "cls", "json"):
            continue
        key = f"{folder}/{stem}"
        if part in found.setdefault(key, {}):
            raise InputError(
                f"a sample of a shard must have one {part}, got another of "
                f"'{shown(info.name)}' in {shown(str(shard))}"
            )
        found[key][part] = info
    return {key: parts for key, parts in found.items() if "image" in parts}


def _note(shard: Path, key: str, parts: dict[str, tarfile.TarInfo]) -> Note | None:
    """Label and group of a sample, if it has a label."""

    def text(part: str) -> str:
        info = parts[part]
        if info.size > LABEL_BYTES:
            raise ValueError(f"{info.size} bytes")
        return cut(shard, info.offset_data, info.size).decode().strip()

    try:
        noted = json.loads(text("json")) if "json" in parts else {}
        if not isinstance(noted, dict):
            raise ValueError("no named entries")
        label = text("cls") if "cls" in parts else noted.get("label")
        group = noted.get("group")
        for value in (label, group):
            if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
                raise ValueError(f"a {type(value).__name__} for label or group")
    except (ValueError, RecursionError) as error:
        raise InputError(
            "a sample's .cls must be a text and its .json named entries with label and group, got "
            f"{shown(str(error))} at '{shown(key.lstrip('/'))}' in {shown(str(shard))}"
        ) from error
    if label is None or str(label).strip() == "":
        return None
    return Note(str(label).strip(), None if group in (None, "") else str(group))
