"""What a study of several trainings needs: the value to lower, and where it remembers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


def objective(folder: Path) -> float | None:
    """The lowest weighted sum of validation metrics that a run reached.

    Args:
        folder: Of the run.

    Returns:
        The value that its best model has; none if it keeps none.
    """
    path = folder / "checkpoints" / "best" / "best.json"
    return float(json.loads(path.read_text())["value"]) if path.is_file() else None


def storage(path: str) -> "RDBStorage":
    """A study's file.

    Optuna 2 counts on SQLAlchemy to write at once, which from its second version on must be asked.

    Args:
        path: Of an SQLite file; its folder is made.
    """
    from optuna.storages import RDBStorage

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return RDBStorage(f"sqlite:///{path}", engine_kwargs={"isolation_level": "AUTOCOMMIT"})
