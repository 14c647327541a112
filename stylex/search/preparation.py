"""What every door that searches prepares: the model on its device, and images that fit it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stylex.classifier.frozen import build_classifier
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.gan.compute import choose_device, lower_type, precision
from stylex.model import StylEx, load
from stylex.progress import Progress
from stylex.search.crew import Member

TRIED = 8  # images that the classifier is tried on before anything long begins


def prepare(
    config: Mapping[str, Any],
    data: ImageSet,
    checkpoint: Path,
    *,
    classifier: Mapping[str, Any] | None,
    local_rank: int,
    progress: Progress,
) -> Member:
    """What a process holds to search: the model on its device, the images, how it computes.

    Args:
        config: The door's: `cpu_threads`, `device`, `ops`, `trust`, and of `search` the
            `batch_size` and `autocast`.
        data: The reference images.
        checkpoint: The model's folder.
        classifier: How another classifier than the model's own is built; none keeps that.
        local_rank: Of the process on its computer; says which GPU is its own.
        progress: Wraps long loops.

    Raises:
        InputError: If there is no such device, if model and images do not fit each other, or if
            the classifier gives probabilities in place of logits.
    """
    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    ops = config["ops"]
    device = choose_device(config["device"], local_rank)
    model = load(checkpoint, trust=config["trust"])
    if classifier is not None:
        other = build_classifier(classifier, model.class_names)
        if other.class_names != model.class_names:
            raise InputError(
                f"another classifier must have the checkpoint's classes "
                f"({', '.join(model.class_names)}), got {', '.join(other.class_names)}; give "
                "classifier.output as in its training"
            )
        model.classifier = other
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = ops["tf32"]
    model = model.to(device)
    for network in (model.encoder, model.generator):
        network.set_precision(precision(ops, torch.device(device)))
    check_fit(model, data, checkpoint)
    computing = {
        "batch_size": config["search"]["batch_size"],
        "autocast": lower_type("search.autocast", config["search"]["autocast"]),
        "channels_last": ops["channels_last"],
        "compile": ops["compile"],
    }
    images, _ = data.batch(range(len(data)))
    model.classifier.check(images[:TRIED].to(device))
    return Member(model, images, computing, progress)


def check_fit(model: StylEx, data: ImageSet, checkpoint: Path) -> None:
    """Refuses data that the model was not made for."""
    have = (data.resolution, data.channels, len(data.class_names))
    want = (model.resolution_px, model.channels, len(model.class_names))
    if have != want:
        raise InputError(
            f"the data must fit the checkpoint '{checkpoint}' ({want[0]} px, {want[1]} channels, "
            f"{want[2]} classes), "
            f"got {have[0]} px, {have[1]} channels, {have[2]} classes; give the data that it was "
            "trained for"
        )
