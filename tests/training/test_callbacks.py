"""What surrounds the loop: metrics, pictures, validation, the forecast."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from stylex.model import StylEx
from stylex.training.callbacks import (
    Metrics,
    Pictures,
    Validation,
    sample_grid,
)
from stylex.training.module import StylExModule
from stylex.types import Images

MakeModule = Callable[..., StylExModule]
Batch = tuple[Images, Tensor]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),  # in Lightning
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training"),  # classifier
]


class Counter(LightningModule):
    """A module that is nothing but its step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step


class Recorder(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    name = "recorder"
    version = 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keeps metrics and their step."""
        self.rows.append((step, metrics))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:  # noqa: ANN401
        """Keeps nothing."""


def trainer(folder: Path, *callbacks: Callback, logger: Logger | None = None) -> Trainer:
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=[] if logger is None else logger,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )


def batch_end(callback: Callback, trainer: Trainer, step: int, **outputs: float) -> None:
    """Tells a callback of the end of the step after which `step` steps are done."""
    terms = {name: torch.tensor(value) for name, value in outputs.items()}
    callback.on_train_batch_end(trainer, Counter(step), terms, None, step - 1)


def test_metrics_are_the_means_since_the_last_row_and_come_at_step_0_and_every_few(
    tmp_path: Path,
) -> None:
    recorder, callback = Recorder(), Metrics(every_steps=3)
    training = trainer(tmp_path, logger=recorder)

    # Step i has a = i; b comes in odd steps only.
    for step in range(8):
        batch_end(
            callback, training, step + 1, a=float(step), **({"b": 10.0 * step} if step % 2 else {})
        )

    assert recorder.rows == [
        (0, {"a": 0.0}),
        (3, {"a": 2.0, "b": 20.0}),
        (6, {"a": 5.0, "b": 50.0}),
    ]


def test_validation_is_measured_after_the_first_step_and_every_few_and_named_so(
    tmp_path: Path,
) -> None:
    recorder = Recorder()
    training = trainer(tmp_path, logger=recorder)
    callback = Validation(every_steps=3, measure=lambda: {"accuracy": 0.5})

    for step in range(1, 8):
        batch_end(callback, training, step)

    assert recorder.rows == [(i, {"validation_accuracy": 0.5}) for i in (0, 2, 5)]


def test_pictures_are_written_after_the_first_step_and_every_few(
    tiny_model: StylEx, tiny_images: Images, tmp_path: Path
) -> None:
    callback = Pictures(3, tmp_path, tiny_model, tiny_images[:2])

    for step in range(1, 7):
        batch_end(callback, trainer(tmp_path), step)

    pictures = sorted(tmp_path.glob("*.png"))
    assert [p.name for p in pictures] == ["0000001.png", "0000003.png", "0000006.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.width < picture.height  # two columns, three rows


def test_every_picture_is_also_sent_to_the_loggers_at_its_step(
    tiny_model: StylEx, tiny_images: Images, tmp_path: Path
) -> None:
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    callback = Pictures(2, tmp_path / "samples", tiny_model, tiny_images[:2])

    for step in (1, 2):
        batch_end(callback, trainer(tmp_path, logger=logger), step)
    logger.finalize("success")

    sent = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Images("samples")
    assert [event.step for event in sent] == [0, 1]
    for event, path in zip(sent, sorted(tmp_path.glob("samples/*.png")), strict=True):
        with Image.open(path) as written, Image.open(BytesIO(event.encoded_image_string)) as found:
            assert found.convert("L").tobytes() == written.tobytes()


def test_the_sample_grid_shows_originals_then_reconstructions_then_samples(
    tiny_model: StylEx, tiny_images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Images] = []

    def keep(images: Images, columns: int) -> Tensor:
        assert columns == 4
        rows.extend(images.split(columns))
        return torch.zeros(1, 8, 8, dtype=torch.uint8)

    monkeypatch.setattr("stylex.training.callbacks.grid", keep)

    sample_grid(tiny_model, tiny_images[:4])

    assert len(rows) == 3
    torch.testing.assert_close(rows[0], tiny_images[:4])
    torch.testing.assert_close(rows[1], tiny_model.reconstruct(tiny_images[:4]))
    assert rows[2].shape == rows[1].shape
    assert not torch.allclose(rows[2], rows[1])
