"""Watches the figures of a training run and says once, in words, when one goes wrong."""

import csv
import math
import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stylex.artifacts import replacing
from stylex.errors import InputError
from stylex.training.findings import Rule, rules
from stylex.training.record import Record

FILE = "warnings.csv"
MACHINE = ("seconds_per_kimg", "images_per_second", "memory_mb")  # say nothing of the training
COLUMNS = ("step", "finding", "text")
STOP_AFTER = 3  # reports in a row of a diverged run: a spike is over by then


class Watch:
    """Looks at all that is logged.

    Attributes:
        record: What was logged so far.
        active: Names of the findings that hold now.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        num_classes: int,
        say: Callable[[str], None],
        folder: Path,
    ) -> None:
        """Prepares the watch; nothing is written before there is something to say.

        Args:
            settings: The configuration's `training` group, of task=stylex.
            num_classes: Of the classifier: what chance is.
            say: Gets each finding as a line.
            folder: Of the run; findings are added to warnings.csv in it. Of several processes the
                first one watches.
        """
        self.settings = {**settings, "num_classes": num_classes}
        self.say, self.path = say, folder / FILE
        self.rules: tuple[Rule, ...] = rules()
        self.record, self.active = Record(), list[str]()
        self.unsound = 0  # reports in a row
        self.looked = False

    def look(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Takes down what was logged at a step, and says what is newly wrong.

        A finding is said once, and again only after it went away.

        Args:
            step: Of training, from 0.
            metrics: Means of the training terms, or validation figures under `validation_`; beside
                what every step gives, `path_mean`, `augment_p` and `spread`'s figures are read.

        Returns:
            The new findings, in words.

        Raises:
            InputError: If the run stays diverged, and `training.stop_on_collapse` is set.
        """
        metrics = {name: value for name, value in metrics.items() if name not in MACHINE}
        if not metrics:
            return []
        self.record.add(step, metrics)
        new = self._judge(metrics)
        for text in new.values():
            self.say(f"step {step}: {text}")
        self._keep(step, new)
        self._stop_if_hopeless(step, metrics)
        return list(new.values())

    def _judge(self, metrics: Mapping[str, float]) -> dict[str, str]:
        """New findings by name; of a run that has diverged, no others are looked for."""
        new = {}
        for rule in self.rules:
            if not rule.reads or set(rule.reads) & set(metrics):
                text = rule.judge(self.record, self.settings)
                if text is None:
                    self.active = [name for name in self.active if name != rule.name]
                elif rule.name not in self.active:
                    self.active.append(rule.name)
                    new[rule.name] = text
            if rule.diverged and rule.name in self.active:
                break
        return new

    def _stop_if_hopeless(self, step: int, metrics: Mapping[str, float]) -> None:
        """Counts training reports with terms or gradients that are not finite, or huge terms."""
        if "replaced_gradients" not in metrics:  # a validation
            return
        finite = all(math.isfinite(value) for value in metrics.values())
        sound = finite and metrics["replaced_gradients"] < 1 and "terms_explode" not in self.active
        self.unsound = 0 if sound else self.unsound + 1
        if self.unsound >= STOP_AFTER and self.settings["stop_on_collapse"]:
            raise InputError(
                "training.stop_on_collapse stops a run that stays diverged, got "
                f"{self.unsound} reports in a row with infinities, no numbers or huge terms at "
                f"step {step}; what to try is in the run's {FILE}"
            )

    def _keep(self, step: int, new: Mapping[str, str]) -> None:
        """Adds findings to the file, without the rows of a stopped run that now runs again."""
        rows = self._rows()
        kept = rows if self.looked else [row for row in rows if int(row["step"]) < step]
        self.looked = True
        if not new and kept == rows:
            return
        added = [{"step": step, "finding": name, "text": text} for name, text in new.items()]
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator=os.linesep)
            writer.writeheader()
            writer.writerows([*kept, *added])

    def _rows(self) -> list[dict[str, Any]]:
        """Rows of the file, but for those that somebody has spoilt."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="", errors="replace") as file:
            return [
                {name: row[name] for name in COLUMNS}
                for row in csv.DictReader(file)
                if set(row) == set(COLUMNS) and (row["step"] or "").isdecimal()
            ]

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which a resumed run goes on."""
        return {"record": asdict(self.record), "active": self.active[:], "unsound": self.unsound}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.record, self.active = Record(**deepcopy(state["record"])), list(state["active"])
        self.unsound = state["unsound"]
