"""A run that goes on: what it must be given again, and where it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.training.checkpoints import stored_state


def data_facts(config: Mapping[str, Any], training: ImageSet) -> dict[str, Any]:
    """What a resumed run must be given again: the data, and the very images that join it."""
    augmented = config["data"].get("augmentation") is not None
    return {
        "data": {
            k: v
            for k, v in config["data"].items()
            if k not in ("augmentation", "num_workers", "cache")
        },
        "data.augmentation": training.fingerprint if augmented else None,
    }


def lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a resumed run may not change: not its length and its reports."""
    said = ("num_steps", "keep_last", "stop_on_collapse")
    return {k: v for k, v in settings.items() if k not in said and "interval_steps" not in k}


def state_of(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state that a run goes on from, or none.

    Args:
        folder: Of the run.
        facts: Settings that must be those it began with.

    Raises:
        InputError: If they are not, or no stored state is whole.
    """
    state = stored_state(folder / "checkpoints")
    for name, value in facts.items():
        if state is not None and state["facts"].get(name) != value:
            raise InputError(
                f"a run goes on with the settings it began with, got another '{name}' for "
                f"'{folder}'; "
                "give another output_dir"
            )
    return state


def steps_left(folder: Path, state: Mapping[str, Any] | None, num_steps: int) -> bool:
    """Says where a stored run is, and whether it has steps to do."""
    if state is None:
        return True
    if state["step"] >= num_steps:
        print(
            f"'{folder}' has its {state['step']} steps; give a larger training.num_steps to go on"
        )
        return False
    print(f"going on with '{folder}' from step {state['step']}")
    return True
