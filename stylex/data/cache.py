"""Images decoded and resized once, in a file that every process maps into its memory.

One entry of the cache is of one source at one resolution and number of channels. Its folder holds
the pixels, a row an image in the order of the source, each row's checksum after them, and an index
that says of which listing they are. Both files are written beside and moved into place, the index
last: an entry is whole or not there. A row that was damaged later is refused when it is read.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from stylex.artifacts import replacing, write_json
from stylex.data.reading import read_each
from stylex.data.sources import Source
from stylex.errors import InputError, shown
from stylex.imaging import BrokenImage, decode_image
from stylex.types import Labels, Pixels

FORM = 2  # raised when images are cut or kept in another way
INDEX, LOCK = "index.json", ".lock"
SUM = np.dtype("<u4")  # CRC-32 of a row


class PixelCache:
    """Square 8-bit pictures of all images of a source.

    Attributes:
        faults: Why images cannot be read or decoded, by their position; their rows are black.

    Args:
        path: The file of the pixels.
        shape: Images, channels, height and width.
        faults: See above.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int, int], faults: Mapping[int, str]
    ) -> None:
        self.faults = dict(faults)
        self._path, self._shape = path, shape
        self._map()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the pixels out, so that a loading process maps the file itself."""
        return {**self.__dict__, "_pixels": None, "_sums": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Maps the file."""
        self.__dict__.update(state)
        self._map()

    def rows(self, positions: Labels) -> Pixels:
        """Gives the pictures at some positions of the source.

        Raises:
            InputError: If one of them is not what was written.
        """
        found = self._pixels[positions.numpy()]
        for position, picture in zip(positions.tolist(), found, strict=True):
            if zlib.crc32(picture) != self._sums[position]:
                raise InputError(
                    "a cache must hold what was written to it, got other pixels in row "
                    f"{position} of '{shown(str(self._path))}'; remove that file, and it is made "
                    "anew"
                )
        return torch.from_numpy(found)

    def _map(self) -> None:
        self._pixels = np.memmap(self._path, np.uint8, "r", shape=self._shape)
        size = int(np.prod(self._shape))
        self._sums = np.memmap(self._path, SUM, "r", offset=size, shape=self._shape[:1])


def cached(source: Source, resolution: int, channels: int, folder: Path | None) -> PixelCache:
    """Opens the pictures of a source, or makes them first.

    Args:
        source: The images.
        resolution: Height and width of the pictures, in pixels.
        channels: 1 for grey, 3 for RGB.
        folder: Where caches are kept; None is `stylex` among the user's caches.

    Raises:
        InputError: If the folder cannot be written or has no room.
    """
    root = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stylex"
    place = os.path.abspath(source.root)
    key = hashlib.sha256(f"{FORM} {place} {resolution} {channels}".encode()).hexdigest()[:16]
    entry = root / f"images-{key}"
    shape = (len(source.members), channels, resolution, resolution)
    found, reason = _opened(entry, source, shape)
    if found is not None:
        return found
    try:
        entry.mkdir(parents=True, exist_ok=True)
        with _locked(entry) as alone:
            found, reason = _opened(entry, source, shape)  # another process may have made it
            if found is not None:
                return found
            if reason:
                log = logging.getLogger("stylex")
                log.info(f"the cache of {shown(source.root)} is made anew: {reason}")
            if alone:
                _sweep(entry)
            return _make(entry, source, shape)
    except OSError as error:
        raise InputError(
            f"data.cache must be a folder that can be written, got '{shown(str(entry))}' "
            f"({error.strerror or error}); give data.cache=FOLDER on a disk with room"
        ) from error


def _opened(
    entry: Path, source: Source, shape: tuple[int, int, int, int]
) -> tuple[PixelCache | None, str]:
    """The entry, if it is whole and of the source as it is; else why it is not, if there is one."""
    try:
        index = json.loads((entry / INDEX).read_text())
        facts = index["facts"]
        if index["checksum"] != _checksum(facts):
            return None, "its index has changed"
        if facts["listing"] != source.listing:
            return None, "the images have changed"
        if facts["unread"]:
            return None, "some images could not be read"
        pixels = entry / facts["pixels"]
        if pixels.stat().st_size != _num_bytes(shape) or facts["shape"] != list(shape):
            return None, "its pixels are not whole"
        faults = {int(position): reason for position, reason in facts["faults"].items()}
        return PixelCache(pixels, shape, faults), ""
    except FileNotFoundError:
        return None, "" if not (entry / INDEX).exists() else "its pixels are gone"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, "its index cannot be read"


def _num_bytes(shape: Sequence[int]) -> int:
    return int(np.prod(shape)) + shape[0] * SUM.itemsize


def _checksum(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _make(entry: Path, source: Source, shape: tuple[int, int, int, int]) -> PixelCache:
    """Decodes all images and puts the entry into place; the lock's holder calls it."""
    needed, free = _num_bytes(shape), shutil.disk_usage(entry).free
    if needed > free:
        raise OSError(None, f"{needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} free")
    path = entry / f"pixels-{source.listing[:16]}.bin"
    faults, unread, sums = {}, False, np.zeros(shape[0], SUM)
    with replacing(path) as temporary, temporary.open("wb") as file:
        for position, (pixels, reason, unread_now) in enumerate(_decoded(source, shape)):
            file.write(pixels)
            sums[position] = zlib.crc32(pixels)
            if reason:
                faults[position], unread = reason, unread or unread_now
        file.write(sums.tobytes())
        file.flush()
        os.fsync(file.fileno())
    facts = {
        **{"source": source.root, "listing": source.listing, "shape": list(shape)},
        **{"pixels": path.name, "faults": {str(k): reason for k, reason in faults.items()}},
        "unread": unread,
    }
    write_json(entry / INDEX, {"facts": facts, "checksum": _checksum(facts)})
    for old in entry.glob("pixels-*.bin"):
        if old != path:
            old.unlink(missing_ok=True)
    return PixelCache(path, shape, faults)


def _sweep(entry: Path) -> None:
    """Removes what builds left that were killed."""
    for old in entry.glob(".*"):
        if old.name != LOCK:
            old.unlink(missing_ok=True)


def _decoded(source: Source, shape: Sequence[int]) -> Iterator[tuple[bytes, str, bool]]:
    """Pixels of every image, why it has none, and whether that may pass."""
    _, channels, _, resolution = shape
    return read_each(_Undecoded(source, resolution, channels), "cache")


class _Undecoded(Dataset[tuple[bytes, str, bool]]):
    """Images of a source, each decoded when it is asked for; bytes go through a pipe as are."""

    def __init__(self, source: Source, resolution: int, channels: int) -> None:
        self.source, self.resolution, self.channels = source, resolution, channels

    def __len__(self) -> int:
        return len(self.source.members)

    def __getitem__(self, position: int) -> tuple[bytes, str, bool]:
        black = bytes(self.channels * self.resolution**2)
        try:
            content = self.source.read(position)
        except OSError as error:
            return black, error.strerror or "it cannot be read", True
        except ValueError as error:
            return black, str(error), False
        try:
            name = self.source.members[position].name
            return _bytes(decode_image(content, name, self.resolution, self.channels)), "", False
        except BrokenImage as error:
            return black, error.reason, False


def _bytes(picture: Pixels | torch.Tensor) -> bytes:
    return picture.numpy().tobytes()


@contextmanager
def _locked(entry: Path) -> Iterator[bool]:
    """Lets one process make an entry at a time, and says whether it does.

    Where files cannot be locked every process makes its own copy, and the last one stays. The lock
    ends with its process, however that ends.
    """
    with (entry / LOCK).open("a") as file:
        try:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logging.getLogger("stylex").info("waiting for another process that makes the cache")
                fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except (ImportError, OSError):
            alone = False
        yield alone
