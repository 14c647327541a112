"""What reaches TensorBoard and Weights & Biases, read back from their own files."""

import importlib.util
import io
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pictured import arguments, model_of_pictures
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stylex import door
from stylex.errors import InputError
from stylex.imaging import write_png
from stylex.loggers import check_loggers, log_file, log_picture, log_results, log_table, markdown

ROOT = Path(__file__).parents[1]
COLUMNS = ("rank", "attribute", "effect")
ROWS = ((1, "16px conv1 #12", 0.5), (2, "4px conv1 #0", None))
TENSORBOARD = {"tensorboard": {"_target_": "lightning.pytorch.loggers.TensorBoardLogger"}}


@pytest.fixture
def tensorboard(tmp_path: Path) -> TensorBoardLogger:
    """A logger that writes into tmp_path."""
    return TensorBoardLogger(tmp_path, name="tensorboard", version="")


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbLogger]:
    """An offline logger that writes into tmp_path, and is quiet."""
    monkeypatch.setenv("WANDB_MODE", "offline")  # put back afterwards: Lightning sets it
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, project="stylex", offline=True)
    yield logger
    logger.experiment.finish()


def pixels(channels: int) -> torch.Tensor:
    return torch.arange(channels * 6 * 8, dtype=torch.uint8).reshape(channels, 6, 8)


def animation(path: Path) -> Path:
    frames = [Image.new("L", (9, 7), grey) for grey in (40, 200)]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=600, loop=0)
    return path


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "tensors": 0})
    return found.Reload()


def media(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"wandb/offline-run-*/files/media/{kind}/**/*.*"))


def decoded(encoded: bytes | Path) -> torch.Tensor:
    with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as picture:
        return torch.from_numpy(np.atleast_3d(np.array(picture))).permute(2, 0, 1)


# One thing at a time


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_reaches_tensorboard_pixel_for_pixel(
    tensorboard: TensorBoardLogger, tmp_path: Path, channels: int
) -> None:
    log_picture([tensorboard], "samples", pixels(channels), step=7)
    tensorboard.finalize("success")
    (event,) = events(tmp_path).Images("samples")
    assert event.step == 7
    assert (event.width, event.height) == (8, 6)
    found = decoded(event.encoded_image_string)
    assert torch.equal(found, pixels(channels).expand_as(found))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_reaches_wandb_pixel_for_pixel(
    wandb: WandbLogger, tmp_path: Path, channels: int
) -> None:
    log_picture([wandb], "samples", pixels(channels) // 200, step=7)  # dark: all 0 or 1
    wandb.experiment.finish()
    (path,) = media(tmp_path, "images")
    assert torch.equal(decoded(path), pixels(channels) // 200)


def test_an_animation_reaches_tensorboard_byte_for_byte(
    tensorboard: TensorBoardLogger, tmp_path: Path
) -> None:
    path = animation(tmp_path / "01.gif")
    log_file([tensorboard], "animations/01", path, step=0)
    tensorboard.finalize("success")
    (event,) = events(tmp_path).Images("animations/01")
    assert event.encoded_image_string == path.read_bytes()
    assert (event.width, event.height) == (9, 7)


def test_an_animation_reaches_wandb_byte_for_byte(wandb: WandbLogger, tmp_path: Path) -> None:
    path = animation(tmp_path / "01.gif")
    log_file([wandb], "animations/01", path, step=0)
    wandb.experiment.finish()
    (stored,) = media(tmp_path, "videos")
    assert stored.suffix == ".gif"
    assert stored.read_bytes() == path.read_bytes()


def test_a_table_reaches_tensorboard_as_markdown(
    tensorboard: TensorBoardLogger, tmp_path: Path
) -> None:
    log_table([tensorboard], "attributes", COLUMNS, ROWS, step=0)
    tensorboard.finalize("success")
    (event,) = events(tmp_path).Tensors("attributes/text_summary")
    assert event.tensor_proto.string_val[0].decode() == markdown(COLUMNS, ROWS)


def test_a_table_in_markdown_has_a_line_for_every_row() -> None:
    assert markdown(COLUMNS, ROWS).splitlines() == [
        "| rank | attribute | effect |",
        "| --- | --- | --- |",
        "| 1 | 16px conv1 #12 | 0.50 |",
        "| 2 | 4px conv1 #0 | – |",
    ]


def test_a_table_reaches_wandb_value_for_value(wandb: WandbLogger, tmp_path: Path) -> None:
    log_table([wandb], "attributes", COLUMNS, ROWS, step=0)
    wandb.experiment.finish()
    (path,) = media(tmp_path, "table")
    stored = json.loads(path.read_text())
    assert stored["columns"] == list(COLUMNS)
    assert stored["data"] == [list(row) for row in ROWS]


# A whole search's results


def results(folder: Path) -> Path:
    """Two animations and a figure, and what is none of the two."""
    for name in ("01", "together"):
        animation(folder / "animations" / f"{name}.gif")
    write_png(folder / "figures" / "overview.png", pixels(3))
    (folder / "animations" / "notes.txt").write_text("no picture")
    return folder


def test_every_picture_of_a_folder_is_sent_under_its_own_name(
    tensorboard: TensorBoardLogger, tmp_path: Path
) -> None:
    log_results([tensorboard], results(tmp_path), COLUMNS, ROWS, {"agreement": 0.75})
    found = events(tmp_path)
    tags = ["animations/01", "animations/together", "figures/overview"]
    assert sorted(found.Tags()["images"]) == tags
    assert found.Scalars("agreement")[0].value == 0.75
    assert found.Tags()["tensors"] == ["attributes/text_summary"]


def test_wandb_gets_the_same_and_its_run_ends(wandb: WandbLogger, tmp_path: Path) -> None:
    log_results([wandb], results(tmp_path), COLUMNS, ROWS, {"agreement": 0.75})
    assert len(media(tmp_path, "videos")) == 2
    assert len(media(tmp_path, "images")) == 1
    assert len(media(tmp_path, "table")) == 1
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    for _ in range(300):  # another process writes it, on a busy machine after the run has ended
        if b"agreement" in log.read_bytes():
            break
        time.sleep(0.1)
    assert b"agreement" in log.read_bytes()
    assert importlib.import_module("wandb").run is None


def test_a_logger_without_a_place_for_pictures_gets_the_figures_alone(tmp_path: Path) -> None:
    loggers: list[Logger] = [CSVLogger(tmp_path / "csv", name="", version="")]
    log_picture(loggers, "samples", pixels(1), step=0)
    log_results(loggers, results(tmp_path), COLUMNS, ROWS, {"agreement": 0.75})
    assert [path.name for path in (tmp_path / "csv").iterdir()] == ["metrics.csv"]
    assert (tmp_path / "csv" / "metrics.csv").read_text().split() == ["agreement,step", "0.75,0"]


# The doors


@pytest.fixture
def no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional package is not there."""
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == "tensorboard" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def test_a_missing_package_is_one_sentence_with_its_remedy(no_tensorboard: None) -> None:
    with pytest.raises(InputError, match=r"needs the package tensorboard, got none; pip install"):
        check_loggers({"mine": {}, **TENSORBOARD} | {"mine": {"_target_": "a.WandbLogger"}})
    check_loggers({"mine": {"_target_": "lightning.pytorch.loggers.WandbLogger"}})


def test_a_package_that_is_there_is_no_mistake() -> None:
    check_loggers(TENSORBOARD)


@pytest.fixture
def opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Any]:
    """Opens a door; gives the exit code and what it printed to stderr."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *overrides: str) -> tuple[Any, str]:
        spec = importlib.util.spec_from_file_location(f"door_{name}", ROOT / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *overrides])
        code: Any = 0
        try:
            door.open_door(name, getattr(module, name))
        except SystemExit as stopped:
            code = stopped.code
        return code, capsys.readouterr().err

    with warnings.catch_warnings():
        yield run
        logging.captureWarnings(False)


@pytest.mark.parametrize("name", ["train", "search"])
def test_a_door_says_that_the_package_is_missing_and_writes_nothing(
    opened: Any, tmp_path: Path, name: str, no_tensorboard: None
) -> None:
    model = f"checkpoint={ROOT / 'pretrained' / 'fashion-32'}" if name == "search" else "seed=0"
    code, err = opened(name, model, "logger=tensorboard", f"output_dir={tmp_path / 'output'}")
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("error: logger=tensorboard needs the package tensorboard, got none;")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def question(tiny_config: dict[str, Any], tmp_path: Path) -> list[str]:
    """A small search, as arguments; its folder is the default one."""
    model = model_of_pictures(tiny_config)
    given = arguments(model, tiny_config, tmp_path)
    few = ["search.num_images=12", "search.num_random=0", "search.num_attributes=2"]
    return [*given, *few, "search.unstable_share=1", "search.least_rise=-1.0"]


def test_a_search_sends_its_table_and_pictures_into_its_own_folder(
    opened: Any, question: list[str], tmp_path: Path
) -> None:
    code, err = opened("search", *question, "logger=tensorboard")
    assert (code, err) == (0, "")
    folder = tmp_path / "results" / "model" / "circle-to-square"
    found = events(folder)
    sent = {
        f"{path.parent.name}/{path.stem}": path.read_bytes()
        for path in (*folder.glob("animations/*.gif"), *folder.glob("figures/*.png"))
    }
    assert len(sent) >= 3
    images = {tag: found.Images(tag)[0].encoded_image_string for tag in found.Tags()["images"]}
    assert images == sent
    metrics = json.loads((folder / "metrics.json").read_text())
    assert sorted(found.Tags()["scalars"]) == sorted(metrics)
    agreement = metrics["agreement"]["value"]
    assert found.Scalars("agreement")[0].value == pytest.approx(agreement)
    (table,) = found.Tensors("attributes/text_summary")
    attributes = json.loads((folder / "attributes.json").read_text())["attributes"]
    lines = table.tensor_proto.string_val[0].decode().splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == [entry["name"] for entry in attributes]


def test_a_comparison_that_shall_be_logged_is_one_sentence(
    opened: Any, question: list[str]
) -> None:
    compared = ["compare=[checkpoint,checkpoint]", "logger=tensorboard"]
    code, err = opened("search", *question, *compared)
    assert code == 2
    assert err.count("\n") == 1
    assert "a comparison has no pictures to log, got logger=tensorboard; leave" in err
