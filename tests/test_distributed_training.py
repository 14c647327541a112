"""The door with several processes, as users start them: the same weights as one process."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
NARROW = "{channel_base: 64, channel_max: 8, noise: true, styled_channels: null}"
SMALL = [
    *("data.batch_size=16", "training.num_steps=4", "training.r1_interval=2"),
    *(f"model.generator={NARROW}", "model.latent_dim=8", "model.mapping_layers=2"),
    *("model.encoder={channel_base: 64, channel_max: 8}", "training.flip_share=0.5"),
    "model.discriminator={channel_base: 64, channel_max: 8, minibatch_group: 4}",
    "training.augment={mode: adaptive, p: 0.3, target: 0.6, adjustment_kimg: 1}",
    *("training.log_interval_steps=2", "cpu_threads=1", "trainer.accelerator=cpu"),
]
PLAIN_NET = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, 4), nn.GELU(), nn.Flatten(), nn.Linear(392, 10)
    )
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def trained(folder: Path, starter: list[str], *arguments: str) -> dict[str, Tensor]:
    command = [*starter, "train.py", *SMALL, f"output_dir={folder}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("done: ") == 1
    return load_file(folder / "checkpoints" / "model.safetensors")


def furthest(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    assert some.keys() == others.keys()
    return max(float((value - others[name]).abs().max()) for name, value in some.items())


@pytest.mark.slow
def test_torchrun_and_the_door_itself_train_two_processes_to_the_weights_of_one(
    tmp_path: Path,
) -> None:
    double = "trainer.precision=64-true"
    alone = trained(tmp_path / "one", [sys.executable], double)
    by_torchrun = trained(tmp_path / "torchrun", TORCHRUN, double, "trainer=ddp")
    by_itself = trained(
        tmp_path / "itself", [sys.executable], double, "trainer=ddp", "trainer.devices=2"
    )

    assert all(value.dtype == torch.float64 for value in alone.values())
    assert furthest(alone, by_torchrun) < 1e-9
    assert furthest(by_torchrun, by_itself) == 0.0
    one, two = ((tmp_path / name / "metrics.csv").read_text() for name in ("one", "torchrun"))
    assert one.splitlines()[0] == two.splitlines()[0]
    assert len(one.splitlines()) == len(two.splitlines())


@pytest.mark.slow
def test_two_processes_train_a_classifier_to_the_weights_and_the_loss_of_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "plain_net.py").write_text(PLAIN_NET)  # without batch normalisation
    given = ["task=classifier", "classifier=module", "classifier.network=plain_net:make"]
    given += ["trainer.precision=64-true", "classifier.input_channels=1"]
    given += ["classifier.input_resolution_px=32", "classifier.input_range=[-1,1]"]
    given += ["classifier.mean=[0]", "classifier.std=[1]", "classifier.feature_layers=['0']"]
    given += ["data.batch_size=16", "training.num_steps=6", "training.log_interval_steps=1"]
    given += ["training.flip_share=0.5", "training.noise_std=0.1"]
    given += ["cpu_threads=1", "trainer.accelerator=cpu"]
    weights, losses = {}, {}
    for name, starter, more in (("one", [sys.executable], []), ("two", TORCHRUN, ["trainer=ddp"])):
        command = [*starter, "train.py", *given, *more, f"output_dir={tmp_path / name}"]
        paths = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        done = subprocess.run(
            command, cwd=ROOT, env=paths, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        weights[name] = load_file(tmp_path / name / "checkpoints" / "classifier.safetensors")
        with (tmp_path / name / "metrics.csv").open(newline="") as file:
            losses[name] = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert furthest(weights["one"], weights["two"]) < 1e-9
    assert len(losses["one"]) == 6
    assert losses["two"] == pytest.approx(losses["one"], abs=1e-9)


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_however_long_that_takes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    slow = (
        tmp_path / "slow.py"
    )  # the door, with a saving that takes longer than the others' leaving
    slow.write_text(
        "import runpy, time\n"
        "from stylex.training import checkpoints\n"
        "keep = checkpoints.Keeper.keep\n"
        "checkpoints.Keeper.keep = lambda *a: (time.sleep(4), keep(*a))\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
    )
    command = [*TORCHRUN, str(slow), *SMALL, f"output_dir={folder}", "trainer=ddp"]
    command += ["training.num_steps=100000", "training.checkpoint_interval_steps=100000"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        deadline = time.monotonic() + 240
        while not list(folder.glob("samples/*.png")) and time.monotonic() < deadline:
            time.sleep(0.2)
        process.terminate()
        process.wait(240)

    assert "was stopped by SIGTERM at step" in (tmp_path / "log").read_text()
    assert len(list(folder.glob("checkpoints/*.ckpt"))) == 1


@pytest.mark.slow
def test_several_processes_without_the_trainer_for_them_get_one_sentence(tmp_path: Path) -> None:
    command = [*TORCHRUN, "train.py", *SMALL, f"output_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert done.returncode != 0
    assert "processes that train together need trainer=ddp, got 2" in done.stderr
    assert "Traceback (most recent call last)" not in done.stderr.split("error: ")[0]
