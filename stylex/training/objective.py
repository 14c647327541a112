"""What an embedding can be trained to; imports nothing heavy, so that a mistake is told at once."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from stylex.errors import InputError

LOSSES, MINERS = ("cross_entropy", "contrastive", "triplet"), ("none", "hard", "semi_hard")


def check_objective(loss: str, miner: str, settings: Mapping[str, Any]) -> None:
    """Refuses a loss and a miner that do not exist or do not go together, and their numbers.

    Args:
        loss: One of `LOSSES`.
        miner: One of `MINERS`.
        settings: The configuration's `training`.

    Raises:
        InputError: If so, or if their package is missing.
    """
    for name, value, known in (("loss", loss, LOSSES), ("miner", miner, MINERS)):
        if value not in known:
            raise InputError(f"{name} must be one of {', '.join(known)}, got '{value}'")
    if loss == "cross_entropy" and miner != "none":
        raise InputError(
            f"loss=cross_entropy looks at single images, so miner must be none, got '{miner}'; "
            "take loss=contrastive or triplet to mine"
        )
    for name in ("temperature", "margin", "apart", "learning_rate"):
        if settings[name] <= 0:
            raise InputError(f"training.{name} must be above 0, got {settings[name]}")
    if find_spec("pytorch_metric_learning") is None:
        raise InputError(
            "task=embedding needs pytorch-metric-learning, got none; pip install "
            "'stylex[attribution]'"
        )
