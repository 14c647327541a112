"""The states that a run goes on from and its best model: of either, one is whole at any moment.

A state's name ends in the checksum of its content, and every file takes its place in one step when
it is on the disk.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from lightning import Callback, LightningModule, Trainer

from stylex.artifacts import CHECKSUM, read_state, sync, write_checked_state, write_json
from stylex.errors import InputError
from stylex.folders import replacing_folder
from stylex.processes import check_alike
from stylex.training.callbacks import Metrics, Validation, steps_done
from stylex.training.departure import Departure
from stylex.training.records import METRICS_FILE

BEST, BEST_FILE = "best", "best.json"  # a folder beside the states, and what it says of its model
STATE = re.compile(rf"(\d{{7,}})-[0-9a-f]{{{CHECKSUM}}}\.ckpt")
EARLIER_STATE = "last.ckpt"  # had no checksum
PARTS = {"step": int, "facts": dict, "sums": dict}  # of every state


class Resumable(Protocol):
    """A module that counts its steps and can be taken up again."""

    step: int

    def training_state(self) -> dict[str, Any]:
        """All that a resumed run needs."""

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Takes over such a state."""


@runtime_checkable
class Stateful(Protocol):
    """Something beside the networks that a run takes up again."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over such a state."""


class Keeper:
    """Keeps a run's last states, its model and its best model."""

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, Any],
        export: Callable[[Path], None],
        state: Mapping[str, Any] | None,
        *,
        keep_last: int,
        best: Mapping[str, float],
    ) -> None:
        """Prepares.

        Args:
            folder: Where states and model go.
            facts: Stored with the state and compared when a run goes on.
            export: Writes the model for use into a folder.
            state: That the run goes on from, if any: it knows the best so far.
            keep_last: States kept, at least 1; with 2, one that a disk spoils costs no run.
            best: Weights of validation metrics; the best model has the lowest sum. None keeps none.

        Raises:
            InputError: If no state is to be kept.
        """
        if keep_last < 1:
            raise InputError(f"training.keep_last must be at least 1, got {keep_last}")
        self.folder, self.facts, self.export = folder, facts, export
        self.keep_last, self.weights = keep_last, best
        self.best: dict[str, Any] | None = None if state is None else state.get("best")

    def keep(self, state: Mapping[str, Any]) -> None:
        """Writes the model, then the state, then lets go of older states."""
        self.export(self.folder)
        metrics = self.folder.parent / METRICS_FILE
        if metrics.is_file():
            sync(metrics)  # its rows are not written again by whoever goes on from here
        whole = {**state, "facts": dict(self.facts), "best": self.best}
        written = write_checked_state(self.folder, f"{state['step']:07d}", whole)
        others = [p for p in _states(self.folder) if p != written]
        earlier = [p for p in others if _step(p) < state["step"]]
        for path in set(others) - set(earlier[: self.keep_last - 1]):
            path.unlink()

    def consider(self, step: int, metrics: Mapping[str, float]) -> None:
        """Exports the model to best/ if no earlier one had so low a sum.

        Args:
            step: Steps done.
            metrics: Of validation, at this step.

        Raises:
            InputError: If a metric is unknown.
        """
        unknown = [name for name in self.weights if name not in metrics]
        if unknown:
            raise InputError(
                f"training.best must weigh validation's metrics ({', '.join(metrics)}), got "
                f"'{unknown[0]}'"
            )
        value = sum(weight * metrics[name] for name, weight in self.weights.items())
        if not self.weights or not math.isfinite(value):
            return
        if self.best is not None and value >= self.best["value"]:
            return
        self.best = {"step": step, "value": value}
        with replacing_folder(self.folder / BEST) as folder:
            self.export(folder)
            facts = {"weights": dict(self.weights), "metrics": dict(metrics)}
            write_json(folder / BEST_FILE, {**self.best, **facts})


class Checkpoint(Callback):
    """Keeps the state of the run, so that the same command goes on, and exports the model."""

    def __init__(
        self,
        folder: Path,
        every_steps: int,
        state: Mapping[str, Any] | None,
        facts: Mapping[str, Any],
        export: Callable[[Path], None],
        *,
        keep_last: int = 2,
        best: Mapping[str, float] | None = None,
        departure: Departure | None = None,
        beside: Mapping[str, Stateful] | None = None,
    ) -> None:
        """Prepares the callback; the last of all, since it ends a step.

        Args:
            folder: Where the states and the model go.
            every_steps: Steps between two states.
            state: State to go on from; none starts at step 0.
            facts: Stored with the state and compared when a run goes on.
            export: Writes the model for use into a folder.
            keep_last: As of `Keeper`.
            best: As of `Keeper`.
            departure: Signals that ask the run to save and leave.
            beside: What else has a state, by its name in the run's.
        """
        self.keeper = Keeper(folder, facts, export, state, keep_last=keep_last, best=best or {})
        self.every_steps, self.state, self.departure = every_steps, state, departure
        self.beside = beside or {}
        self.saved: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over the stored state, now that the optimisers exist.

        Raises:
            InputError: If processes that train together found different states, or it is of
                another model.
        """
        check_alike(
            "the steps of their stored states", 0 if self.state is None else self.state["step"]
        )
        if self.state is not None:
            take_over(cast(Resumable, pl_module).load_training_state, self.state)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Metrics):
                    callback.sums, callback.counts = self.state["sums"], self.state["counts"]
            for name, part in self.beside.items():
                take_over(part.load_state_dict, self.state, name)
            self.state = None
        if self.departure is not None:
            self.departure.begin()  # only now: Lightning has put its own handlers there before

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves when it is time, and ends the run after this step if a signal asked for it."""
        step = steps_done(pl_module)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Validation) and callback.found is not None:
                metrics, callback.found = callback.found, None
                if trainer.is_global_zero:
                    self.keeper.consider(step, metrics)
        several = trainer.world_size > 1
        share = partial(trainer.strategy.broadcast, src=0) if several else None
        if self.departure is not None and self.departure.wanted(step, share):
            trainer.should_stop = True  # and so it saves in on_train_end
        elif step % self.every_steps == 0:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves at the end. A run stopped inside a step goes on from the last state."""
        if self.saved != steps_done(pl_module):
            self._save(trainer, pl_module)
        if trainer.world_size > 1:  # a starter ends all processes once one of them has left
            trainer.strategy.barrier("saved")
        if self.departure is not None:
            self.departure.end()

    def _save(self, trainer: Trainer, module: Any) -> None:
        self.saved = steps_done(module)
        if not trainer.is_global_zero:
            return
        metrics = [c for c in trainer.callbacks if isinstance(c, Metrics)]  # type: ignore[attr-defined]
        state = {
            **module.training_state(),
            "sums": metrics[0].sums if metrics else {},
            "counts": metrics[0].counts if metrics else {},
            **{name: part.state_dict() for name, part in self.beside.items()},
        }
        self.keeper.keep(state)


def take_over(
    load: Callable[[Mapping[str, Any]], None], state: Mapping[str, Any], part: str | None = None
) -> None:
    """Loads a state, or a part of it.

    Raises:
        InputError: If it is of another model: whole, but of other names or shapes.
    """
    try:
        load(state if part is None else state[part])
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise InputError(
            "a training state must be of the model that goes on, got other names or shapes "
            f"({type(e).__name__} at step {state['step']}); give another output_dir"
        ) from e


def has_states(folder: Path) -> bool:
    """Whether a run left a state in this folder, whole or not."""
    return bool(_states(folder))


def stored_state(folder: Path) -> dict[str, Any] | None:
    """The newest whole state that a run in this folder left, or none.

    Raises:
        InputError: If there are states and none is whole.
    """
    states, faults = _states(folder), []
    if not states and (folder / EARLIER_STATE).is_file():
        raise InputError(
            f"a run goes on from a state with a checksum, got '{folder / EARLIER_STATE}' of an "
            "earlier version; give another output_dir"
        )
    for path in states:
        try:
            state = read_state(path)
            if not _is_state(state) or state["step"] != _step(path):
                raise InputError(f"a training state must be a run's, got '{path}'")
        except InputError as error:
            faults.append(error)
            continue
        if faults:
            print(
                f"'{states[0]}' is not whole: goes on with the one before it, of step {_step(path)}"
            )
        return state
    if not faults:
        return None
    raise InputError(
        f"a run goes on from a whole state, got {len(faults)} in '{folder}' and none of them whole "
        f"(the newest: {faults[0]}); remove them to start again, or give another output_dir"
    ) from faults[0]


def _states(folder: Path) -> list[Path]:
    """Paths of the states, the newest first."""
    found = [path for path in folder.glob("*.ckpt") if STATE.fullmatch(path.name)]
    return sorted(found, key=lambda path: (_step(path), path.name), reverse=True)


def _step(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _is_state(state: Any) -> bool:
    return isinstance(state, dict) and all(isinstance(state.get(k), t) for k, t in PARTS.items())
