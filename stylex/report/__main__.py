"""A door: draws finished searches anew. `python -m stylex.report FOLDER format=gif,mp4`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stylex.door import open_door
from stylex.errors import InputError

LISTS = ("format", "figures")


def report(config: dict[str, Any], _raw: DictConfig) -> None:
    """Draws the searches of some folders, together if they are several."""
    given = config.pop("folders")
    if given is None:
        raise InputError(
            "a report is of a search's folder, got none; python -m stylex.report FOLDER"
        )
    folders = [Path(str(each)) for each in (given if isinstance(given, list) else [given])]
    output = Path(str(config.pop("output_dir") or folders[0]))
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"a report is of a search's folder, got no folder '{folder}'; run search.py first"
            )
    from stylex.artifacts import check_writable
    from stylex.progress import Bars
    from stylex.report.report import Rendering, write_report

    check_writable(output)
    write_report(folders, output, Rendering.of(config), Bars())
    print(f"open {output / 'index.html'}")


def arguments(typed: Sequence[str], lists: Sequence[str] = LISTS) -> list[str]:
    """What was typed, as Hydra reads it: folders become a list, and so do some keys' values."""
    folders = [
        text
        for text in typed
        if not text.startswith("-") and ("=" not in text or Path(text).is_dir())
    ]
    others = [text for text in typed if text not in folders]
    for i, text in enumerate(others):
        key, _, value = text.partition("=")
        if key in lists and not value.startswith("["):
            others[i] = f"{key}=[{value}]"
    quoted = ",".join(
        '"' + folder.replace("\\", "\\\\").replace('"', '\\"') + '"' for folder in folders
    )
    return [*others, f"folders=[{quoted}]"] if folders else others


if __name__ == "__main__":
    sys.argv[1:] = arguments(sys.argv[1:])
    open_door("report", report)
