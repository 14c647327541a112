"""What the numbers of a training may be; imports nothing heavy: a mistake is told at once."""

from collections.abc import Mapping
from typing import Any

from stylex.errors import InputError
from stylex.ranges import (
    AMOUNT,
    COUNT,
    MODEL,
    NUMBER,
    POSITIVE,
    SHARE,
    SIZE,
    Range,
    check_ranges,
)

RATE = Range(0, 1, beyond=True)
DECAY = {"from_step": NUMBER, "to_step": NUMBER, "to_factor": SHARE}
CHANGEABLE = {  # by a stage
    "hidden_share": SHARE,
    "weights.*": AMOUNT,
    **{f"learning_rate_decay.{key}": allowed for key, allowed in DECAY.items()},
}
TRAINING = {
    "num_steps": COUNT,
    "accumulation": SIZE,
    "learning_rate": RATE,
    "betas.*": Range(0, 0.999999),
    "encoder_rate_factor": Range(0, 1000),
    "style_mixing": SHARE,
    "flip_share": SHARE,
    **CHANGEABLE,
    "stages.*.from_step": NUMBER,
    **{f"stages.*.{key}": allowed for key, allowed in CHANGEABLE.items()},
    "augment.p": SHARE,
    "augment.adjustment_kimg": Range(0, 10**9, beyond=True),
    "r1_interval": COUNT,
    "path_length_interval": COUNT,
    "path_length_decay": Range(0, 1, beyond=True),
    "path_length_shrink": SIZE,
    "average_half_life_kimg": Range(0, 10**9, beyond=True),
    "average_ramp": POSITIVE,
    "log_interval_steps": COUNT,
    "validation_interval_steps": COUNT,
    "picture_interval_steps": COUNT,
    "checkpoint_interval_steps": COUNT,
    "keep_last": Range(1, 10**6, whole=True),
    "best.*": Range(-(10**6), 10**6),
    "weight_decay": AMOUNT,
    "label_smoothing": SHARE,
    "noise_std": Range(0, 100),
    "classes_per_batch": SIZE,
    "images_per_class": SIZE,
    "embedding_dim": SIZE,
    "temperature": POSITIVE,
    "margin": Range(0, 2, beyond=True),
    "apart": POSITIVE,
}
REST = {
    "report_seconds": Range(0, 10**6, beyond=True),
    "data.batch_size": COUNT,
    "data.num_workers": Range(0, 1024, whole=True),
    "held_out.share": SHARE,
    "retrieval.gallery_per_class": COUNT,
    "retrieval.num_images": COUNT,
    "retrieval.chunk_size": COUNT,
    "retrieval.num_shown": SIZE,
    **{f"model.{key}": allowed for key, allowed in MODEL.items()},
    "trainer.num_nodes": SIZE,
}


def check_training(config: Mapping[str, Any]) -> None:
    """Refuses numbers with which no training makes sense.

    Args:
        config: The whole configuration of train.py.

    Raises:
        InputError: If there is one.
    """
    settings, model, data = (config[key] for key in ("training", "model", "data"))
    for key, own in (("resolution_px", "resolution"), ("channels", "channels")):
        if model[key] != data[own]:
            raise InputError(
                f"model.{key} must be data.{own} ({data[own]}), got {model[key]}; leave it out"
            )
    if isinstance(config["trainer"]["devices"], int | float):
        check_ranges(config, {"trainer.devices": SIZE})
    if settings.get("perceptual", "none") is None:
        raise InputError("training.perceptual must be classifier, lpips or none, got null")
    check_ranges(settings, TRAINING, "training.")
    check_ranges(config, REST)
    for place in (settings, *settings.get("stages", ())):
        decay = place.get("learning_rate_decay")
        if decay is not None and decay["to_step"] <= decay["from_step"]:
            raise InputError(
                "training.learning_rate_decay.to_step must be above from_step "
                f"({decay['from_step']}), got {decay['to_step']}"
            )
