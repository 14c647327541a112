"""metrics.csv: a row for whatever was logged at a step, whole whenever the run is killed."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from stylex.artifacts import replacing

METRICS_FILE = "metrics.csv"


class MetricsLogger(Logger):
    """Takes metrics alone: config.yaml has the settings, and no folder needs a name."""

    @property
    def name(self) -> str:
        """None that a folder would need."""
        return ""

    @property
    def version(self) -> str:
        """None that a folder would need."""
        return ""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Takes nothing."""


class Records(MetricsLogger):
    """Writes every row at once. A new column rewrites the file beside the old one."""

    def __init__(self, folder: Path, step: int) -> None:
        """Takes over the rows before `step`; a run that goes on writes the others again."""
        super().__init__()
        self.path = folder / METRICS_FILE
        trim_metrics(self.path, step)
        self.names = _read(self.path)[0]

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row."""
        row = {**metrics, "step": step}
        if set(row) <= set(self.names) and self.path.is_file():
            with self.path.open("a", newline="") as file:
                _writer(file, self.names).writerow(row)
            return
        rows = _read(self.path)[1]
        self.names = sorted({*self.names, *row})
        _write(self.path, self.names, [*rows, row])


@rank_zero_only
def trim_metrics(path: Path, step: int) -> None:
    """Drops the rows of metrics.csv from `step` on, which a resumed run writes again."""
    if path.is_file():
        names, rows = _read(path)
        _write(path, names, [row for row in rows if row["step"] and int(row["step"]) < step])


def _read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows; a last line that was cut off is none."""
    if not path.is_file():
        return [], []
    with path.open(newline="") as file:
        whole = [line for line in file if line.endswith("\n")]
    reader = csv.DictReader(whole)
    return list(reader.fieldnames or []), list(reader)


def _write(path: Path, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = _writer(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _writer(file: TextIO, names: Sequence[str]) -> csv.DictWriter:
    return csv.DictWriter(file, names, lineterminator=os.linesep)
