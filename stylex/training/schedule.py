"""What the settings say of a step: stages, learning rate, which path it takes."""

from collections.abc import Mapping
from typing import Any

from stylex.errors import InputError

CHANGEABLE = ("weights", "hidden_share", "learning_rate_decay")  # by a stage


class Schedule:
    """Settings of every step of a run."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Checks the settings.

        Args:
            settings: The configuration's `training` group, with `batch_size`.

        Raises:
            InputError: If a stage or `hidden_by` is unknown, or a part of the batch too small.
        """
        if settings["hidden_by"] not in ("others", "uniform"):
            raise InputError(
                f"training.hidden_by must be others or uniform, got '{settings['hidden_by']}'"
            )
        smallest = settings["batch_size"] // settings["accumulation"]
        if settings["hidden_by"] == "others" and smallest < 2:
            raise InputError(
                "training.hidden_by=others needs two images in every part of the batch, got "
                f"data.batch_size {settings['batch_size']} and accumulation "
                f"{settings['accumulation']}; lower training.accumulation"
            )
        for stage in settings["stages"]:
            _check_stage(stage, settings)
        self.settings = settings

    def at(self, step: int) -> Mapping[str, Any]:
        """Settings of a step: a stage's replace the earlier ones from its step on."""
        found = dict(self.settings)
        for stage in self.settings["stages"]:
            if step >= stage["from_step"]:
                weights = {**found["weights"], **stage.get("weights", {})}
                found = {**found, **stage, "weights": weights}
        return found

    def ever_weighs(self, term: str) -> bool:
        """Whether a term has a weight at any step."""
        stages = [stage.get("weights", {}) for stage in self.settings["stages"]]
        return any(weights.get(term) for weights in (self.settings["weights"], *stages))

    def learning_rate_factor(self, step: int) -> float:
        """Factor on all learning rates: 1, then falling in a straight line, then constant."""
        decay = self.at(step)["learning_rate_decay"]
        if step <= decay["from_step"]:
            return 1.0
        done = (step - decay["from_step"]) / (decay["to_step"] - decay["from_step"])
        return 1.0 + min(1.0, done) * (decay["to_factor"] - 1.0)

    def takes_encoder_path(self, step: int) -> bool:
        """Whether a step takes the encoder path: odd ones do; all do without a noise path."""
        return step % 2 == 1 or not self.settings["noise_path"]


def _check_stage(stage: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuses a stage that changes what is built once, or that is misspelt."""
    unknown = [key for key in stage if key not in ("from_step", *CHANGEABLE)]
    unknown += [key for key in stage.get("weights", {}) if key not in settings["weights"]]
    if unknown or "from_step" not in stage:
        raise InputError(
            f"a stage of training.stages has from_step and any of {', '.join(CHANGEABLE)}, "
            f"got {', '.join(unknown) or 'no from_step'}"
        )
