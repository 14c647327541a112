"""Folders and archives of small pictures, for tests."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from stylex.data.datasets import ImageFolder

KINDS = {"jpg": "JPEG", "jpeg": "JPEG", "webp": "WebP"}
SPLITS = ("train", "validation", "test")


def picture(name: str) -> bytes:
    """A flat grey picture of 8 px; its level follows from the name."""
    level = hashlib.sha256(name.encode()).digest()[0]
    content = io.BytesIO()
    kind = KINDS.get(name.lower().rpartition(".")[2], "PNG")
    Image.new("L", (8, 8), level).save(content, kind)
    return content.getvalue()


def write(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(name))
    return root


def write_zip(path: Path, names: Iterable[str], below: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(f"{below}{name}", picture(name))
    return path


def write_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def many(count: int, *classes: str) -> list[str]:
    return [f"{name}/{i:03}.png" for name in classes for i in range(count)]


def folder(root: Path | str, **changes: Any) -> ImageFolder:
    options: dict[str, Any] = {
        **{"split": "train", "resolution": 32, "channels": 1},
        **{"validation_share": 0.1, "test_share": 0.2, "seed": 0},
    }
    return ImageFolder(root=root, **{**options, **changes})


def paths(root: Path | str, **changes: Any) -> list[str]:
    return folder(root, **changes).paths


def labelled_paths(root: Path | str, **changes: Any) -> dict[str, str]:
    """Of every path of every split that has images the name of its class."""
    found: dict[str, str] = {}
    for split in SPLITS:
        part = folder(root, split=split, **changes)
        names = [part.class_names[label] for label in part.labels.tolist()]
        found |= dict(zip(part.paths, names, strict=True))
    return found
