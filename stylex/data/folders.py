"""Folders of images with one sub-folder a class: what they hold."""

from pathlib import Path

from stylex.errors import InputError
from stylex.imaging import KINDS, SUFFIXES


def class_folders(root: Path, what: str) -> list[Path]:
    """Lists the sub-folders of a data folder, by name.

    Args:
        root: The folder.
        what: The key that names it, for the error's sentence.

    Raises:
        InputError: If it is none, or has fewer than two.
    """
    if not root.is_dir():
        raise InputError(f"{what} must be an existing folder, got {root}: correct the path")
    folders = sorted(
        entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    if len(folders) < 2:
        raise InputError(
            f"{what} must have at least two sub-folders, one a class, got {len(folders)} in "
            f"{root}: sort the images into class folders"
        )
    return folders


def image_paths(root: Path, folder: Path) -> list[str]:
    """Lists the image files of a class, relative to the root, with forward slashes.

    Raises:
        InputError: If there are none.
    """
    files = [
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    ]
    if not files:
        raise InputError(
            f"a folder of images must hold {KINDS} files, got none in {folder}: "
            "add images or remove the folder"
        )
    return sorted(file.relative_to(root).as_posix() for file in files)
