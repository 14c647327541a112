"""Sends pictures, animations, tables and figures to Lightning's loggers.

Weights & Biases and TensorBoard have a place for each of them. Every other logger, such as
Lightning's CSV logger, takes figures alone: it is passed over for the rest, which lies in files.
"""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from stylex.errors import InputError


def check_loggers(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses a logger whose package is missing, before anything is computed for it.

    Args:
        settings: The configuration group `logger`: of every logger `_target_` and its arguments.

    Raises:
        InputError: If there is none for TensorBoard.
    """
    names = [str(logger["_target_"]).rpartition(".")[2] for logger in settings.values()]
    if TensorBoardLogger.__name__ in names and importlib.util.find_spec("tensorboard") is None:
        raise InputError(
            "logger=tensorboard needs the package tensorboard, got none; "
            "pip install -e '.[tensorboard]'"
        )


def log_picture(
    loggers: Iterable[Logger], tag: str, pixels: UInt8[Tensor, "c h w"], step: int
) -> None:
    """Sends a picture.

    Args:
        loggers: Any of Lightning's.
        tag: What the picture is found under; a slash makes groups.
        pixels: In [0, 255], grey or RGB.
        step: Of training, from 0.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(tag, [to_pil_image(pixels.cpu())], step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, pixels, step)


def log_file(loggers: Iterable[Logger], tag: str, path: Path, step: int) -> None:
    """Sends a PNG or GIF file as it is: no frame is decoded, so an animation stays one."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            log = logger.log_video if path.suffix == ".gif" else logger.log_image
            log(tag, [str(path)], step)
        elif isinstance(logger, TensorBoardLogger):
            _add_encoded(logger, tag, path, step)


def _add_encoded(logger: TensorBoardLogger, tag: str, path: Path, step: int) -> None:
    """Adds a file's bytes as an image, which TensorBoard hands to the browser unchanged."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    with Image.open(path) as picture:
        width, height = picture.size
    image = Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
    )
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    logger.experiment._get_file_writer().add_summary(summary, step)


def log_table(
    loggers: Iterable[Logger],
    tag: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    step: int,
) -> None:
    """Sends a table; TensorBoard, which has none, gets it as Markdown.

    Args:
        loggers: Any of Lightning's.
        tag: What the table is found under.
        columns: Their names.
        rows: One value per column: texts, numbers, or none.
        step: Of training, from 0.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(tag, list(columns), [list(row) for row in rows], step=step)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(tag, markdown(columns, rows), step)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; fractions get two decimals, what is missing a dash."""

    def cell(value: object) -> str:
        if value is None:
            return "–"
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    cells = [[cell(value) for value in row] for row in rows]
    lines = [list(columns), ["---"] * len(columns), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def log_results(
    loggers: Sequence[Logger],
    folder: Path,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    metrics: Mapping[str, float],
) -> None:
    """Sends what a search found, and ends the loggers.

    Args:
        loggers: Any of Lightning's.
        folder: Every animations/*.gif and figures/*.png in it is sent, under folder and name.
        columns: Of the table of attributes.
        rows: One per attribute.
        metrics: Figures by name.
    """
    for logger in loggers:
        logger.log_metrics(dict(metrics), step=0)
    log_table(loggers, "attributes", columns, rows, 0)
    for path in sorted((*folder.glob("animations/*.gif"), *folder.glob("figures/*.png"))):
        log_file(loggers, f"{path.parent.name}/{path.stem}", path, 0)
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
