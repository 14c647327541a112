"""Where training and searches send figures, pictures and tables beside their own files.

TensorBoard and Weights & Biases have a place for each of them. Every other logger, such as
Lightning's CSV logger, takes figures alone: it is passed over for the rest, which lies in files.
None of the two can end a run: what they refuse is said once, and metrics.csv has every figure.
"""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jaxtyping import UInt8
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from stylex.errors import InputError
from stylex.tracking import KEY, Enduring, Wandb, enduring, has_key

SECRETS = ("key", "token", "password", "secret")


class TensorBoard(Enduring, TensorBoardLogger):
    """TensorBoard that cannot end a run."""


def check_loggers(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses a logger that cannot be had, before anything is computed for it.

    Args:
        settings: The configuration group `logger`: of every logger `_target_` and its arguments.

    Raises:
        InputError: If there is no package for TensorBoard, or no key for a server asked for.
    """
    names = [str(logger["_target_"]).rpartition(".")[2] for logger in settings.values()]
    wanted = {TensorBoardLogger.__name__, TensorBoard.__name__}
    if wanted & set(names) and importlib.util.find_spec("tensorboard") is None:
        raise InputError(
            "logger=tensorboard needs the package tensorboard, got none; "
            "pip install -e '.[tensorboard]'"
        )
    for name, logger in zip(names, settings.values(), strict=True):
        if name == Wandb.__name__ and logger.get("offline") is False and not has_key():
            raise InputError(
                f"logger.wandb.offline=false needs a key, got none; give {KEY}, or leave it out"
            )


def log_config(loggers: Iterable[Logger], config: Mapping[str, Any]) -> None:
    """Sends the resolved configuration, without the loggers' own part and without secrets."""
    shown = public({name: value for name, value in config.items() if name != "logger"})
    for logger in loggers:
        with enduring(logger):
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(shown, allow_val_change=True)
            elif isinstance(logger, TensorBoardLogger):
                text = "".join(f"    {line}\n" for line in yaml.safe_dump(shown).splitlines())
                logger.experiment.add_text("config", text)


def public(settings: Any) -> Any:  # noqa: ANN401  any nesting
    """Settings without those whose name says that they are secret."""
    if isinstance(settings, Mapping):
        return {
            name: public(value)
            for name, value in settings.items()
            if str(name).rpartition("_")[2].lower() not in SECRETS
        }
    return [public(value) for value in settings] if isinstance(settings, list) else settings


def end_loggers(loggers: Iterable[Logger], *, well: bool) -> None:
    """Ends the loggers, so that another run of this process begins its own."""
    for logger in loggers:
        with enduring(logger):
            logger.finalize("success" if well else "failed")
            if isinstance(logger, Wandb):
                logger.end(well=well)
            elif isinstance(logger, WandbLogger):
                logger.experiment.finish()


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
        with enduring(logger):
            if isinstance(logger, WandbLogger):
                logger.log_image(tag, [to_pil_image(pixels.cpu())], step)
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(tag, pixels, step)


def log_file(loggers: Iterable[Logger], tag: str, path: Path, step: int) -> None:
    """Sends a PNG or GIF file as it is: no frame is decoded, so an animation stays one."""
    for logger in loggers:
        with enduring(logger):
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
        with enduring(logger):
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
    end_loggers(loggers, well=True)
