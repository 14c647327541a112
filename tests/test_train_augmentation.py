"""Training with a set that joins the training images: `data.augmentation=SET`."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from doors import run
from omegaconf import OmegaConf
from PIL import Image

from stylex.artifacts import read_tensors
from stylex.errors import InputError

CLASSES = ("disc", "square")


def fill(root: Path, count: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """Five pictures a class, three of them to train on; two steps of the whole train split."""
    return [
        "task=classifier",
        "data=folder",
        f"data.root={fill(tmp_path / 'pictures', 5, 0)}",
        "data.resolution=32",
        "classifier=small_cnn",
        "classifier.arguments.width=4",
        "cpu_threads=1",
        "trainer.accelerator=cpu",
        "training.num_steps=2",
        "data.batch_size=6",
        "training.validation_interval_steps=1",
        "training.checkpoint_interval_steps=1",
        f"output_dir={tmp_path / 'run'}",
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "checkpoints" / "classifier.safetensors", "classifier")[0]


def test_the_set_is_trained_on_and_kept_in_the_configuration(
    asked: list[str], tmp_path: Path
) -> None:
    added = fill(tmp_path / "set", 6, 1)
    batch_of_all = ["data.batch_size=18"]  # more than the data alone has
    with pytest.raises(InputError, match="batch"):
        run("train", *asked, *batch_of_all)
    run("train", *asked, *batch_of_all, f"data.augmentation={added}")
    kept = OmegaConf.load(tmp_path / "run" / "checkpoints" / "config.yaml")
    assert kept.data.augmentation == str(added)
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        found = [row["accuracy"] for row in csv.DictReader(file) if row.get("accuracy")]
    assert set(map(float, found)) <= {0.0, 0.5, 1.0}  # of the two validation images alone


@pytest.mark.parametrize("first", ["with", "without"])
def test_a_run_goes_on_with_the_set_it_began_with(
    first: str, asked: list[str], tmp_path: Path
) -> None:
    given = [f"data.augmentation={fill(tmp_path / 'set', 2, 1)}"]
    begun, changed = (given, []) if first == "with" else ([], given)
    run("train", *asked, *begun)
    with pytest.raises(InputError, match=r"got another 'data\.augmentation'"):
        run("train", *asked, *changed, "training.num_steps=3")
    if first == "with":
        Image.new("RGB", (32, 32)).save(tmp_path / "set" / "disc" / "more.png")
        with pytest.raises(InputError, match=r"got another 'data\.augmentation'"):
            run("train", *asked, *given)


def test_a_set_moved_elsewhere_is_the_same_set(asked: list[str], tmp_path: Path) -> None:
    added = fill(tmp_path / "set", 2, 1)
    run("train", *asked, f"data.augmentation={added}")
    before = weights(tmp_path / "run")
    added.rename(tmp_path / "moved")
    run("train", *asked, f"data.augmentation={tmp_path / 'moved'}")  # nothing is left to do
    after = weights(tmp_path / "run")
    assert all(torch.equal(after[name], value) for name, value in before.items())
