"""What surrounds the loop: resuming, metrics, pictures, validation, the forecast."""

import csv
from collections.abc import Callable, Mapping
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
from torch.utils.data import DataLoader

from stylex.errors import InputError
from stylex.model import StylEx
from stylex.training.callbacks import (
    STATE_FILE,
    Checkpoint,
    Forecast,
    Metrics,
    Pictures,
    Validation,
    sample_grid,
    stored_state,
    trim_metrics,
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


class Terms(Callback):
    """Keeps every step's terms; raises at one step, as if the run were stopped."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.found: list[dict[str, float]] = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, Tensor],
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Keeps the terms."""
        self.found.append({name: float(value) for name, value in outputs.items()})
        if int(pl_module.step) == self.stop_at:
            raise RuntimeError("stopped")


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


def loader(batches: list[Batch]) -> DataLoader:
    return DataLoader(batches, batch_size=None, collate_fn=tuple)


def quiet_checkpoint(folder: Path, state: dict[str, Any] | None, every_steps: int) -> Checkpoint:
    return Checkpoint(folder, every_steps, state, {"seed": 0}, lambda _: None)


def batch_end(callback: Callback, trainer: Trainer, step: int, **outputs: float) -> None:
    """Tells a callback of the end of the step after which `step` steps are done."""
    terms = {name: torch.tensor(value) for name, value in outputs.items()}
    callback.on_train_batch_end(trainer, Counter(step), terms, None, step - 1)


def assert_same_state(found: Any, expected: Any) -> None:  # noqa: ANN401  any nesting
    """Bit for bit, through dictionaries and lists."""
    assert type(found) is type(expected)
    if isinstance(expected, Mapping):
        assert list(found) == list(expected)
        for key in expected:
            assert_same_state(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_same_state(a, b)
    elif isinstance(expected, Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    else:
        assert found == expected


def test_a_stopped_run_goes_on_bit_for_bit_as_if_it_had_never_stopped(
    make_module: MakeModule, batches: list[Batch], tmp_path: Path
) -> None:
    lazy = {"path_length_interval": 2, "r1_interval": 3}
    whole_terms, first_terms, second_terms = Terms(), Terms(stop_at=5), Terms()
    whole = make_module(**lazy)
    trainer(tmp_path, whole_terms).fit(whole, loader(batches[:6]))

    stopped = make_module(**lazy)
    saver = quiet_checkpoint(tmp_path, None, every_steps=3)
    with pytest.raises(RuntimeError, match="stopped"):
        trainer(tmp_path, saver, first_terms).fit(stopped, loader(batches[:6]))
    state = stored_state(tmp_path)
    resumed = make_module(init_seed=7, **lazy)  # all that counts comes from the state
    saver = quiet_checkpoint(tmp_path, state, every_steps=100)
    trainer(tmp_path, saver, second_terms).fit(resumed, loader(batches[3:6]))

    assert state["step"] == 3
    assert first_terms.found == whole_terms.found[:5]
    assert second_terms.found == whole_terms.found[3:]
    assert stored_state(tmp_path)["step"] == 6
    saved = {name: stored_state(tmp_path)[name] for name in ("step", "networks", "optimisers")}
    assert_same_state(saved, resumed.training_state())
    assert_same_state(resumed.training_state(), whole.training_state())


def test_a_state_is_saved_with_its_facts_and_the_model_every_few_steps_and_at_the_end(
    make_trainee: MakeModule, tmp_path: Path
) -> None:
    module, exports = make_trainee(), []
    callback = Checkpoint(tmp_path, 3, None, {"seed": 5, "data": {"x": [1]}}, exports.append)
    training = trainer(tmp_path)

    saved_at = []
    for step in range(1, 8):
        module.step = step
        callback.on_train_batch_end(training, module, {}, None, step - 1)
        state = stored_state(tmp_path)
        saved_at.append(state and state["step"])
    callback.on_train_end(training, module)

    assert saved_at == [None, None, 3, 3, 3, 6, 6]
    assert exports == [tmp_path] * 3
    state = stored_state(tmp_path)
    assert (state["step"], state["facts"]) == (7, {"seed": 5, "data": {"x": [1]}})


def test_a_state_holds_no_classifier(make_trainee: MakeModule) -> None:
    networks = make_trainee().training_state()["networks"]

    assert networks
    assert not [name for name in networks if "classifier" in name]


def test_a_folder_without_a_state_has_none_and_a_broken_state_is_refused(tmp_path: Path) -> None:
    assert stored_state(tmp_path) is None

    (tmp_path / STATE_FILE).write_bytes(b"no state")

    with pytest.raises(InputError, match="a training state must be a whole file of tensors"):
        stored_state(tmp_path)


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


def test_a_run_that_goes_on_drops_the_metrics_from_its_step_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("a,step,b\n1.0,0,\n2.0,50,3.0\n4.0,99,\n5.0,100,6.0\n7.0,150,\n")

    trim_metrics(path, 100)

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"a": "1.0", "step": "0", "b": ""},
        {"a": "2.0", "step": "50", "b": "3.0"},
        {"a": "4.0", "step": "99", "b": ""},
    ]


def test_a_run_without_metrics_has_none_to_drop(tmp_path: Path) -> None:
    trim_metrics(tmp_path / "metrics.csv", 100)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("num_steps", "left"), [(1011, "about 17 minutes"), (36011, "about 10.0 hours")]
)
def test_the_forecast_is_said_once_from_the_pace_after_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_steps: int, left: str
) -> None:
    said: list[str] = []
    callback = Forecast(num_steps, after_steps=11, say=said.append)
    training = trainer(tmp_path)

    for batch_idx in range(20):
        seconds = 100.0 + batch_idx if batch_idx else 0.0  # the first step takes 101 seconds
        monkeypatch.setattr("time.monotonic", lambda now=seconds: now)
        callback.on_train_batch_start(training, Counter(batch_idx), None, batch_idx)

    assert said == [f"{num_steps - 11} steps are left: {left} at 1.0 steps a second"]


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
