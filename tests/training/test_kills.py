"""Runs killed with SIGKILL at random moments end bit for bit as an undisturbed one."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from recorded import recorded
from torch import Tensor

from stylex.artifacts import read_state

ROOT = Path(__file__).parents[2]
SEED = 20261123
WIDTH = "{channel_base: 128, channel_max: 8"
CLASSES = ("disc", "dot", "line", "ring", "square")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A few pictures of five classes, as the door's arguments."""
    root, draw = tmp_path_factory.mktemp("kills") / "pictures", np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(20):
            pixels = (40 * k + draw.integers(0, 80, (32, 32))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return [
        *("data=folder", f"data.root={root}", "data.resolution=32", "data.channels=1"),
        *("data.validation_share=0.3", "data.test_share=0.3"),
        *("classifier=small_cnn", "classifier.arguments.width=4", "classifier.weights=null"),
        *("cpu_threads=1", "trainer.accelerator=cpu"),
    ]


TASKS = {
    "stylex": [
        *("data.batch_size=4", "model.latent_dim=4", "model.mapping_layers=2"),
        f"model.generator={WIDTH}, noise: true}}",
        f"model.encoder={WIDTH}}}",
        f"model.discriminator={WIDTH}, minibatch_group: 2}}",
        *("training.path_length_interval=2", "training.r1_interval=3", "training.num_steps=45"),
        *("training.log_interval_steps=2", "training.validation_interval_steps=4"),
        *("training.picture_interval_steps=8", "training.checkpoint_interval_steps=3"),
        *("training.learning_rate=0.01", "training.flip_share=0.5"),
        *("training.augment.mode=adaptive", "training.augment.adjustment_kimg=1"),
    ],
    "classifier": [
        *("task=classifier", "data.batch_size=8", "training.num_steps=24"),
        *("training.log_interval_steps=2", "training.validation_interval_steps=3"),
        "training.checkpoint_interval_steps=2",
    ],
    "embedding": [
        *("task=embedding", "training.classes_per_batch=3", "training.images_per_class=4"),
        *("training.num_steps=24", "training.log_interval_steps=2", "training.embedding_dim=4"),
        *("training.validation_interval_steps=3", "training.checkpoint_interval_steps=2"),
        *("retrieval.gallery_per_class=2", "held_out.classes=[disc,ring]"),
    ],
}


def carried_out(folder: Path, overrides: list[str], kills: list[list[Any]]) -> list[dict[str, Any]]:
    """Runs killed so, one after the other in one folder, and one that is not."""
    plan = folder.with_suffix(".json")
    plan.write_text(json.dumps({"overrides": [*overrides, f"output_dir={folder}"], "kills": kills}))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("kills.py")), str(plan)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) == len(kills) + 1, done.stderr
    print(*runs, sep="\n")
    assert runs[-1]["code"] == 0, done.stderr
    return runs


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and plain value of a state, with its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for key, inner in enumerate(value):
            yield from leaves(inner, f"{name}/{key}")
    else:
        yield name, value


def last_state(folder: Path) -> dict[str, Any]:
    newest = sorted(folder.glob("checkpoints/*.ckpt"))[-1]
    return dict(leaves(read_state(newest)))


def assert_same_run(killed: Path, whole: Path) -> None:
    """The files, the metrics and the state from which it would go on, bit for bit."""

    def files(folder: Path) -> set[str]:
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        return {name for name in found if not name.endswith(".ckpt")}

    assert files(killed) == files(whole)
    assert not [name for name in files(killed) if "partial" in name or "lock" in name]
    assert recorded(killed / "metrics.csv") == recorded(whole / "metrics.csv")
    for name in files(whole) - {"config.yaml", "metrics.csv"}:  # the first names the folder
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    one, other = last_state(killed), last_state(whole)
    assert one.keys() == other.keys()
    for name, value in other.items():
        same = torch.equal(one[name], value) if isinstance(value, Tensor) else one[name] == value
        assert same, name


def moments(count: int, most_calls: int) -> list[list[Any]]:
    """Two of three at the n-th call of a run, the others at a time after its first step."""
    draw = random.Random(SEED)
    return [
        ["seconds", draw.uniform(0, 0.12)] if i % 3 == 2 else ["calls", draw.randint(1, most_calls)]
        for i in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "kills"), [("stylex", 20), ("classifier", 3), ("embedding", 3)])
def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_an_undisturbed_one(
    task: str, kills: int, pictures: list[str], tmp_path: Path
) -> None:
    given = [*pictures, *TASKS[task]]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    (undisturbed,) = carried_out(whole, given, [])

    # Every other kill lets a run come past a saving or two; there are more than ten of them.
    runs = carried_out(killed, given, moments(kills, undisturbed["calls"] // 10))

    assert [run["code"] for run in runs[:-1]] == [-9] * kills
    assert_same_run(killed, whole)
