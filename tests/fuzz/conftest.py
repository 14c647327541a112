"""Doors and sound inputs, made once; every test spoils a copy."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from doors import script
from fuzzing import Entrance, stop
from PIL import Image
from small import CLASSES, CLASSIFIER, MODEL

from stylex.attribution.__main__ import attribution
from stylex.classifier.frozen import build_classifier
from stylex.data.check.__main__ import check
from stylex.doctor import examine_classifier
from stylex.evaluation.__main__ import evaluation
from stylex.model import build_model
from stylex.report.__main__ import report


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="session")
def pictures(home: Path) -> Path:
    """Ten random pictures of 32 px in each of three classes; nobody writes there."""
    root = home / "pictures"
    random = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for i in range(10):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="session")
def stored(home: Path) -> Path:
    """A whole untrained model with its discriminator; nobody writes there."""
    torch.manual_seed(0)
    model = build_model(MODEL, build_classifier(CLASSIFIER, CLASSES))
    model.save(home / "stored", {"classifier": CLASSIFIER, "model": MODEL})
    return home / "stored"


@pytest.fixture
def checkpoint(stored: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(stored, tmp_path / "model"))


@pytest.fixture(scope="module")
def _stopped() -> Iterator[None]:
    """Nothing trains, searches, measures or draws: a legal input ends where that would begin."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lightning.Trainer, "fit", stop)
        for name in (
            "stylex.training.loop.go_on",
            "stylex.search.explanation.explain_together",
            "stylex.report.report.write_report",
            "stylex.evaluation.readers.train_reader",
            "stylex.attribution.gallery.Gallery",
            "stylex.live.__main__.prepared",
        ):
            patched.setattr(name, stop)
        patched.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError))
        yield


@pytest.fixture(scope="module")
def entrances(_stopped: None, pictures: Path, stored: Path, home: Path) -> dict[str, Entrance]:
    """Each door, given what is sound."""
    data = ["data=folder", f"data.root={pictures}", "data.resolution=32"]
    small = ["classifier=small_cnn", "classifier.weights=null", "classifier.arguments.width=2"]
    narrow = ["model.latent_dim=4", "model.mapping_layers=2", "data.batch_size=4"]
    one = ["cpu_threads=1", f"output_dir={home / 'output'}"]
    train, search = script("train").train, script("search").search
    return {
        "train": Entrance("train", train, [*data, *small, *narrow, *one]),
        "classifier": Entrance(
            "train", train, ["task=classifier", *data, *small, "data.batch_size=4", *one]
        ),
        "embedding": Entrance(
            "train",
            train,
            ["task=embedding", *data, *small, *one, "training.classes_per_batch=2"]
            + ["training.images_per_class=2"],
        ),
        "search": Entrance("search", search, [f"checkpoint={stored}", *data, "device=cpu", *one]),
        "check": Entrance("check", check, [f"data.root={pictures}"]),
        "doctor": Entrance("doctor", examine_classifier, [*data, *small, "device=cpu"]),
        "scores": Entrance("evaluation", evaluation, ["folders=[nowhere]"]),
        "augment": Entrance("evaluation", evaluation, ["folders=[nowhere]", "task=augment"]),
        "reader": Entrance(
            "evaluation",
            evaluation,
            ["task=reader", "data=faces", f"output={home / 'reader.safetensors'}"]
            + ["data.num_images={train: 9, validation: 9, test: 9}"],
        ),
        "report": Entrance("report", report, [f"folders=[{home}]"]),
        "attribution": Entrance("attribution", attribution, [f"output_dir={home / 'wing'}"]),
    }
