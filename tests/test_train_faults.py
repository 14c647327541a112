"""What a training run meets: signals, full disks, lost folders, other runs; nothing is lost."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doors import run
from PIL import Image
from recorded import recorded

from stylex.classifier.module import ClassifierModule
from stylex.errors import InputError
from stylex.folders import LOCK_FILE, Lock
from stylex.training.checkpoints import stored_state
from stylex.training.embedding import EmbeddingTraining
from stylex.training.module import StylExModule

WIDTH = "{channel_base: 128, channel_max: 8"
STEPS = {
    "classifier": (ClassifierModule, "training_step"),
    "embedding": (EmbeddingTraining, "train_on"),
    "stylex": (StylExModule, "training_step"),
}
TASKS = {
    "classifier": ["data.batch_size=8"],
    "embedding": [
        *("training.classes_per_batch=2", "training.images_per_class=4"),
        *("training.embedding_dim=4", "retrieval.gallery_per_class=2"),
        "held_out.classes=[square,ring]",
    ],
    "stylex": [
        *("data.batch_size=4", "model.latent_dim=4", "model.mapping_layers=2"),
        f"model.generator={WIDTH}, noise: true}}",
        f"model.encoder={WIDTH}}}",
        f"model.discriminator={WIDTH}, minibatch_group: 2}}",
    ],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("faults") / "pictures", np.random.default_rng(0)
    for k, name in enumerate(("disc", "dot", "ring", "square")):
        (root / name).mkdir(parents=True)
        for i in range(20):
            pixels = (50 * k + draw.integers(0, 80, (32, 32))).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def given(pictures: Path, tmp_path: Path) -> Any:  # noqa: ANN401
    """The door's arguments for a task that writes into a folder."""

    def make(task: str, *more: str, folder: str = "run", every: int = 2) -> list[str]:
        return [
            f"task={task}",
            *("data=folder", f"data.root={pictures}", "data.resolution=32", "data.channels=1"),
            *("data.validation_share=0.3", "data.test_share=0.3"),
            *("classifier=small_cnn", "classifier.arguments.width=4"),
            *("cpu_threads=1", "trainer.accelerator=cpu", "training.num_steps=6"),
            *("training.log_interval_steps=1", "training.validation_interval_steps=2"),
            f"training.checkpoint_interval_steps={every}",
            *TASKS[task],
            f"output_dir={tmp_path / folder}",
            *more,
        ]

    return make


@pytest.fixture
def in_step(monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    """Does something inside a task's n-th step."""

    def make(task: str, step: int, do: Any) -> None:  # noqa: ANN401
        owner, name = STEPS[task]
        real = getattr(owner, name)

        def stepped(self: Any, *args: Any) -> Any:  # noqa: ANN401
            if self.step == step - 1:
                do()
            return real(self, *args)

        monkeypatch.setattr(owner, name, stepped)

    return make


def weights(folder: Path) -> dict[str, Any]:
    """Weights and metrics."""
    found = {
        re.sub("-[0-9a-f]{16}", "", p.relative_to(folder).as_posix()): p.read_bytes()
        for p in folder.rglob("*.safetensors")
    }
    return {**found, "metrics": recorded(folder / "metrics.csv")}


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob(".*")]


# Signals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "signum"),
    [
        ("classifier", signal.SIGTERM),
        pytest.param("embedding", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("stylex", signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_step_saves_and_the_same_command_ends_as_in_one_go(
    given: Any,  # noqa: ANN401
    in_step: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
    signum: int,
) -> None:
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$*" > {tmp_path / "asked"}\n')
    scontrol.chmod(0o755)
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    run("train", *given(task, folder="whole"))
    with monkeypatch.context() as patched:
        patched.setenv("SLURM_JOB_ID", "4711")
        patched.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        in_step(task, 3, lambda: os.kill(os.getpid(), signum))
        with pytest.raises(SystemExit) as left:
            run("train", *given(task, every=100))
    assert left.value.code == 128 + signum
    said = capsys.readouterr().out
    assert f"run' was stopped by {signal.Signals(signum).name} at step 3; the same command" in said
    assert (tmp_path / "asked").exists() == (signum == signal.SIGUSR1)
    assert stored_state(tmp_path / "run" / "checkpoints")["step"] == 3
    assert leftovers(tmp_path / "run") == []
    monkeypatch.undo()

    torch.manual_seed(99)
    run("train", *given(task, every=100))

    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
    after = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    assert after == before


# The folder --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classifier", "embedding"])
def test_a_folder_removed_under_a_run_is_one_sentence_and_is_not_made_again(
    given: Any,  # noqa: ANN401
    in_step: Any,  # noqa: ANN401
    tmp_path: Path,
    task: str,
) -> None:
    in_step(task, 4, lambda: shutil.rmtree(tmp_path / "run"))

    with pytest.raises(InputError, match="stay where it is while a run writes there, got '.*run'"):
        run("train", *given(task))

    assert not (tmp_path / "run").exists()


def test_two_runs_cannot_write_into_one_folder(given: Any, tmp_path: Path) -> None:  # noqa: ANN401
    lock = Lock(tmp_path / "run")

    with pytest.raises(InputError, match=f"which process {os.getpid()} on .* is writing; wait"):
        run("train", *given("classifier"))

    assert os.listdir(tmp_path / "run") == [LOCK_FILE]
    lock.release()
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_refused_before_it_writes_leaves_no_folder(
    given: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="batch"):
        run("train", *given("classifier", "data.batch_size=1000"))

    assert not (tmp_path / "run").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for a state or two."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("task", ["classifier", pytest.param("embedding", marks=pytest.mark.slow)])
def test_a_full_disk_is_one_sentence_and_the_last_state_is_whole_and_goes_on(
    given: Any,  # noqa: ANN401
    in_step: Any,  # noqa: ANN401
    small_disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
) -> None:
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1024))
            except OSError:
                pass

    command = given(task, folder="disk/run")
    in_step(task, 4, fill)
    with pytest.raises(InputError, match="needs room to write in, got '.*run' on a full disk"):
        run("train", *command)
    monkeypatch.undo()
    assert stored_state(small_disk / "run" / "checkpoints")["step"] == 2
    assert leftovers(small_disk / "run") == []
    filler.unlink()

    run("train", *command)

    run("train", *given(task, folder="whole"))
    assert weights(small_disk / "run") == weights(tmp_path / "whole")


def test_a_folder_without_permission_is_one_sentence_and_what_was_saved_goes_on(
    given: Any,  # noqa: ANN401
    in_step: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(handle: int) -> None:
        raise PermissionError(13, "Permission denied")

    in_step("classifier", 4, lambda: monkeypatch.setattr(os, "fsync", refuse))
    with pytest.raises(InputError, match="must be a folder that can be written, got '.*run' .Perm"):
        run("train", *given("classifier"))
    monkeypatch.undo()
    assert stored_state(tmp_path / "run" / "checkpoints")["step"] == 2
    assert leftovers(tmp_path / "run") == []

    run("train", *given("classifier"))


# States and models -------------------------------------------------------------------------------


def test_a_run_with_a_spoilt_newest_state_goes_on_from_the_one_before_to_the_same_end(
    given: Any,  # noqa: ANN401
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = given("classifier")
    run("train", *command)
    expected = weights(tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").glob("*.ckpt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-100])
    capsys.readouterr()

    run("train", *command)

    said = capsys.readouterr().out
    assert "goes on with the one before it, of step 4" in said
    assert "going on with" in said
    assert weights(tmp_path / "run") == expected
