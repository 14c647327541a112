"""What a training records, without what the clock and the machine decide."""

import csv
from pathlib import Path

SPEED = ("seconds_per_kimg", "images_per_second", "memory_mb")


def recorded(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv that are the same in every run."""
    with path.open(newline="") as file:
        rows = [
            {name: value for name, value in row.items() if value and name not in SPEED}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if len(row) > 1]  # more than the step
