"""Door: reads every image once and lists what is corrupt, too small or there twice.

`python -m stylex.data.check data=folder data.root=PATH [data.resolution=64] [output=FILE.csv]`

It exits with 0 if nothing is wrong, with 1 if something is, with 2 at a user's mistake.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from stylex.door import open_door
from stylex.errors import InputError

KEYS = (
    *("root", "resolution", "validation_share", "test_share", "seed"),
    *("labels", "columns", "classes", "splits"),
)


def check(config: dict[str, Any], _raw: DictConfig) -> None:
    """Prints the survey, writes it if that is asked for, leaves with 1 if there are findings."""
    data, output = config["data"], config["output"]
    if "root" not in data:
        raise InputError(
            "the check is of image files, got a data option that has none; give data=folder "
            "data.root=PATH"
        )
    from stylex.data.check.presentation import check_output, table, write
    from stylex.data.check.survey import survey
    from stylex.data.labelling import check_on_error

    check_on_error(data["on_error"])
    if output is not None:
        check_output(Path(str(output)))
    found = survey(**{key: data[key] for key in KEYS})
    print(table(found))
    if output is not None:
        write(found, Path(str(output)))
        print(f"\nall findings are in '{output}'")
    if found.findings:
        raise SystemExit(1)


if __name__ == "__main__":
    open_door("check", check)
