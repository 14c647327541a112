"""Files: written whole or not at all, read without running what is inside, stamped."""

import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stylex.errors import InputError, shown

CHECKSUM = 16  # hexadecimal digits of a state's SHA-256, in its name
SCHEMA = 1  # of every file that a stage leaves; raised when a reader has to know
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # begins a cell that a spreadsheet may run
PARTIAL = ".partial."  # begins the name of what is being written
PACKAGES = ("stylex", "torch", "torchvision", "lightning", "numpy", "zarr", "safetensors")


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """A temporary path that takes the place of `path` if the block ends well, else vanishes.

    Args:
        path: The file; its folder is made.
        durable: Whether the file must survive a power cut from the end of the block on.
    """
    with _partial(path) as temporary:
        yield temporary
        _put(temporary, path, durable)


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A new file beside `path`, which goes at the end of the block if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{PARTIAL}{path.name}."
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _put(temporary: Path, path: Path, durable: bool) -> None:
    temporary.chmod(0o644)
    if durable:
        sync(temporary)
    temporary.replace(path)
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some file systems sync no folders
            raise
    finally:
        os.close(handle)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    durable: bool = False,
) -> None:
    """Writes tensors as safetensors, with texts as metadata; `durable` as in `replacing`."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path, durable) as temporary:
        content = save(plain, {"schema": str(SCHEMA), **(metadata or {})})
        temporary.write_bytes(_in_order(content))


def _in_order(content: bytes) -> bytes:
    """The same file with its metadata sorted; safetensors writes them in a random order."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]


def read_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a safetensors file and its metadata.

    Args:
        path: The file.
        what: What the user calls it, for the error's sentence.

    Raises:
        InputError: If it is missing, truncated or no safetensors file.
    """
    if not path.is_file():
        raise InputError(f"{what} must be an existing safetensors file, got '{path}'")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{what} must be a whole safetensors file, got '{path}' ({error}); copy or train it "
            "again"
        ) from error


def spoilt(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that must be numbers like a network's own, and are no or infinite ones."""
    return [
        name
        for name, value in tensors.items()
        if name in own
        and own[name].is_floating_point()
        and not (value.is_floating_point() and bool(value.isfinite().all()))
    ]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Sixteen hex digits that tell named tensors from others."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        plain = value.detach().cpu().contiguous()
        found.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes a training state (tensors, numbers, texts, and dictionaries and lists of them)."""
    with replacing(path) as temporary:
        _save(state, temporary)


def write_checked_state(folder: Path, name: str, state: Mapping[str, Any]) -> Path:
    """Writes a training state as NAME-CHECKSUM.ckpt, which survives a power cut.

    State and checksum appear in one step, the renaming, so that there is no moment at which they
    disagree.
    """
    with _partial(folder / f"{name}.ckpt") as temporary:
        path = folder / f"{name}-{_save(state, temporary)}.ckpt"
        _put(temporary, path, durable=True)
    return path


def _save(state: Mapping[str, Any], path: Path) -> str:
    """Saves and returns the checksum."""
    with path.open("wb") as file:
        stream = _Checked(file)
        torch.save(dict(state), cast(IO[bytes], stream))
        if stream.failed is not None:
            raise stream.failed
    return stream.digest.hexdigest()[:CHECKSUM]


class _Checked:
    """A stream that takes the checksum, and keeps what failed, which torch's writer would hide."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.failed: OSError | None = None

    def write(self, content: bytes | memoryview) -> int:
        self.digest.update(content)
        try:
            if self.failed is None:
                self.file.write(content)
        except OSError as error:
            self.failed = error
        return memoryview(content).nbytes

    def flush(self) -> None:
        if self.failed is None:
            self.file.flush()


def read_state(path: Path) -> dict[str, Any]:
    """Reads a training state with `weights_only=True`: nothing inside the file is run.

    Raises:
        InputError: If the file cannot be read, is not the one that its name's checksum was taken
            of, or holds anything but tensors and plain values.
    """
    remedy = "delete it to start again, or give another output_dir"
    stated = re.search(rf"-([0-9a-f]{{{CHECKSUM}}})\.ckpt$", path.name)
    try:
        if stated:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()[:CHECKSUM]
            if found != stated[1]:
                raise InputError(
                    f"a training state must be a whole file of tensors, got '{path}' (its checksum "
                    f"is {found}); {remedy}"
                )
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # torch.load raises many kinds for a bad file
        raise InputError(
            f"a training state must be a whole file of tensors, got '{path}' "
            f"({type(error).__name__}); {remedy}"
        ) from error


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Reads a file of named entries.

    Args:
        path: The file.
        remedy: What to do if it is broken.

    Raises:
        InputError: If it is no JSON, or holds no named entries.
    """
    try:
        value = json.loads(path.read_text())
    except (
        ValueError,
        RecursionError,
    ) as error:  # also of what is too deep, or has too many digits
        raise InputError(f"'{path}' must be readable JSON, got {error}; {remedy}") from error
    if not isinstance(value, dict):
        raise InputError(f"'{path}' must hold named entries, got a list or a value; {remedy}")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON that people can read."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_yaml(path: Path, value: Mapping[str, Any], durable: bool = False) -> None:
    """Writes YAML in the order of the mapping; `durable` as in `replacing`."""
    with replacing(path, durable) as temporary:
        temporary.write_text(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))


def harmless(cell: str) -> str:
    """A CSV file's cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def check_apart(folder: Path, images: object) -> None:
    """Makes sure that results do not land among the images, where they would become a class.

    Args:
        folder: For the results.
        images: What was given as the folder of the images, if anything was.

    Raises:
        InputError: If the one lies in the other.
    """
    if not isinstance(images, str) or not Path(images).is_dir():
        return
    if folder.resolve().is_relative_to(Path(images).resolve()):
        raise InputError(
            "output_dir must lie outside the folder of the images, got "
            f"'{shown(str(folder))}' in '{shown(images)}'; choose another"
        )


def check_writable(folder: Path) -> None:
    """Makes sure that a folder can be made and written, and leaves nothing behind.

    Raises:
        InputError: If it cannot.
    """
    parent = folder
    try:
        while not parent.exists():
            parent = parent.parent
        with tempfile.TemporaryDirectory(dir=parent):
            pass
    except OSError as error:
        raise InputError(
            f"output_dir must be a folder that can be written, got '{shown(str(folder))}'; choose "
            "another"
        ) from error


def provenance(**facts: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON value
    """What made a file: the given facts with schema, versions and platform."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "schema": SCHEMA,
        **facts,
        "versions": {"python": platform.python_version(), **versions},
        "platform": platform.platform(),
    }
