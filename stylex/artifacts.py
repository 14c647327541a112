"""Files: written whole or not at all, read without running what is inside, stamped."""

import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stylex.errors import InputError

SCHEMA = 1  # of every file that a stage leaves; raised when a reader has to know
PACKAGES = ("stylex", "torch", "torchvision", "lightning", "numpy", "zarr", "safetensors")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` if the block ends well, else vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors as safetensors, with texts as metadata."""
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with replacing(path) as temporary:
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
        torch.save(dict(state), temporary)


def read_state(path: Path) -> dict[str, Any]:
    """Reads a training state with `weights_only=True`: nothing inside the file is run.

    Raises:
        InputError: If the file is truncated or holds anything but tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds for a bad file
        raise InputError(
            f"a training state must be a whole file of tensors, got '{path}' "
            f"({type(error).__name__}); "
            "delete it to start again, or give another output_dir"
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
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"'{path}' must be readable JSON, got {error}; {remedy}") from error
    if not isinstance(value, dict):
        raise InputError(f"'{path}' must hold named entries, got a list or a value; {remedy}")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON that people can read."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_yaml(path: Path, value: Mapping[str, Any]) -> None:
    """Writes YAML in the order of the mapping."""
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True))


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
            f"output_dir must be a folder that can be written, got '{folder}'; choose another"
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
