"""The pace of a training: what is logged of it, and how it is shown."""

import csv
import io
import os
import pty
import re
import select
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from stylex.training.throughput import Throughput, memory_mb, on_terminal, time_left


class Counter(LightningModule):
    """A module that is nothing but its step."""

    step = 0


class Clock:
    """A time that a test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.seconds


def train(callback: Throughput, folder: Path, seconds: list[float], at: int) -> None:
    """Steps that take so many seconds each, from step `at` on; each has two terms."""
    trainer = Trainer(
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    module = Counter()
    module.step = at
    for i, duration in enumerate(seconds):
        callback.on_train_batch_start(trainer, module, None, i)
        assert isinstance(callback.now, Clock)
        callback.now.seconds += duration
        module.step += 1
        terms = {"loss": torch.tensor(float(i)), "hidden": torch.tensor(9.0)}
        callback.on_train_batch_end(trainer, module, terms, None, i)
    callback.on_train_end(trainer, module)


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def reporter(said: list[str], *, every_steps: int = 2, every_seconds: float = 10) -> Throughput:
    return Throughput(100, 16, every_steps, every_seconds, ("loss",), said.append, Clock())


def test_a_row_has_the_pace_since_the_row_before_over_all_images_of_a_step(tmp_path: Path) -> None:
    train(reporter([]), tmp_path, [8.0, 1.0, 3.0, 2.0, 2.0], at=0)
    found = [(r["step"], r["seconds_per_kimg"], r["images_per_second"]) for r in rows(tmp_path)]
    assert found == [
        (0, pytest.approx(8000 / 16), pytest.approx(16 / 8)),
        (2, pytest.approx(4000 / 32), pytest.approx(32 / 4)),
        (4, pytest.approx(4000 / 32), pytest.approx(32 / 4)),
    ]
    assert all(row["memory_mb"] > 1 for row in rows(tmp_path))


def test_a_run_that_goes_on_has_rows_at_the_same_steps(tmp_path: Path) -> None:
    train(reporter([]), tmp_path, [1.0] * 5, at=3)
    assert [row["step"] for row in rows(tmp_path)] == [4, 6]


def test_the_time_left_is_that_of_the_steps_after_the_slow_first_one(tmp_path: Path) -> None:
    said: list[str] = []
    train(reporter(said), tmp_path, [50.0, 2.0, 2.0], at=40)
    assert said[-1].startswith("step 43/100  1.9 minutes left  125 s/kimg  8.0 images/s  ")
    assert said[-1].endswith("MB  loss 2")


def test_where_there_is_no_terminal_a_line_comes_every_few_seconds_and_at_the_end(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    train(reporter(said, every_seconds=10), tmp_path, [4.0] * 7, at=0)
    steps = [re.match(r"step (\d+)/100 ", line) for line in said]
    assert [match and int(match[1]) for match in steps] == [3, 6, 7]
    assert not [line for line in said if "hidden" in line]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 seconds"),
        (89, "89 seconds"),
        (120, "2.0 minutes"),
        (5000, "83.3 minutes"),
        (36000, "10.0 hours"),
        (604800, "7.0 days"),
    ],
)
def test_a_time_is_said_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert time_left(seconds) == text


def test_a_file_is_no_terminal_and_this_process_takes_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setenv("FORCE_COLOR", "1")  # which some clusters set
    assert not on_terminal()
    assert 50 < memory_mb(torch.device("cpu")) < 1e6


def shown(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> str:
    """What a terminal of 120 columns is sent while something is done."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    reading, writing = pty.openpty()
    found = b""
    with os.fdopen(writing, "w", buffering=1) as file, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", file)
        do()
        while select.select([reading], [], [], 0.2)[0]:
            found += os.read(reading, 10_000)
    os.close(reading)
    return found.decode()


def test_on_a_terminal_one_line_moves_and_nothing_else_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    text = shown(monkeypatch, lambda: train(reporter(said), tmp_path, [1.0] * 4, at=0))
    assert said == []
    assert "step 4/100" in text
    assert text.count("\n") == 1  # the line's end
    assert text.count("\r") >= 4
    assert text.endswith("\x1b[?25h")  # the cursor is back


def test_the_terminal_is_left_as_it_was_when_a_run_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    callback = reporter([])
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)

    def fail() -> None:
        callback.on_train_batch_start(trainer, Counter(), None, 0)
        callback.on_exception(trainer, Counter(), RuntimeError())

    assert shown(monkeypatch, fail).endswith("\x1b[?25h")


def test_of_several_processes_the_first_one_alone_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    callback = reporter(said, every_steps=1000, every_seconds=0)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    module = Counter()
    callback.on_train_batch_start(trainer, module, None, 0)
    module.step = 1
    callback.on_train_batch_end(trainer, module, {}, None, 0)
    callback.on_train_end(trainer, module)
    assert said == []
