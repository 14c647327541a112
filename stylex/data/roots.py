"""What the user calls the root of the images: a folder, a zip file, WebDataset shards."""

from pathlib import Path

from stylex.data.shards import Tars, open_shards
from stylex.data.sources import Folder, Source
from stylex.data.zips import Zip
from stylex.errors import InputError, shown


def open_source(root: str | Path) -> Source:
    """Lists the images of a folder, a zip file or WebDataset shards.

    Args:
        root: A folder of images or of .tar files, a .zip file, a .tar file, or a pattern of such
            as `train-{000..099}.tar`.

    Raises:
        InputError: If it is none of these, or an archive is not safe to read.
    """
    path = Path(str(root))
    if path.is_dir():
        found = Folder(path)
        if found.members or not (shards := _shards_below(path)):
            return found
        return Tars(str(path), path, shards)
    if path.suffix.lower() == ".zip" and path.is_file():
        return Zip(path)
    if path.suffix.lower() == ".tar" and (path.is_file() or "{" in str(path)):
        return open_shards(path)
    raise InputError(
        f"root must be an existing folder, got {shown(str(path))}: correct the path (a .zip file, "
        "a .tar file and a pattern of .tar files are taken, too)"
    )


def _shards_below(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*.tar") if path.is_file())
    return sorted(path for path in found if "/." not in f"/{path.relative_to(folder).as_posix()}")
