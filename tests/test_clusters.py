"""Trainings through Slurm, whose commands are stand-ins: with submitit, and with the plain file."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from slurm import stand_ins

ROOT = Path(__file__).parents[1]
FILE = ROOT / "configs" / "launcher" / "train.sbatch"
TINY = [
    "task=classifier",
    "classifier=small_cnn",
    "classifier.arguments.width=4",
    "training.num_steps=4",
    "training.log_interval_steps=1",
    "data.batch_size=8",
    "trainer.accelerator=cpu",
    "cpu_threads=1",
]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# The plain file


def test_the_file_asks_to_be_told_in_time_and_to_be_queued_again() -> None:
    text = FILE.read_text()
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(\S*)", text, re.M))
    assert asked["signal"] == "USR1@120"
    assert "requeue" in asked
    assert asked["open-mode"] == "append"
    assert {"nodes", "ntasks-per-node", "gpus-per-node", "time"} <= asked.keys()
    subprocess.run(["bash", "-n", str(FILE)], check=True)


def run_file(folder: Path, tasks: int, *typed: str) -> subprocess.CompletedProcess[str]:
    """Runs the file as its batch job does, on a computer with so many tasks."""
    job = {
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NODELIST": "here",
        "SLURM_NTASKS": str(tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        "SLURM_NNODES": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_SUBMIT_DIR": str(ROOT),
    }
    return subprocess.run(
        ["bash", str(FILE), *typed],
        env={**stand_ins(folder), **job},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_file_starts_train_with_what_is_typed_on_every_task(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    stand_ins(folder)
    (folder / "python").write_text(
        '#!/bin/sh\necho "$SLURM_PROCID $MASTER_ADDR $MASTER_PORT $PWD: $*"\n'
    )
    done = run_file(folder, 3, "output_dir=a b", "seed=1")
    assert done.returncode == 0, done.stderr
    what = f"127.0.0.1 20077 {ROOT}: train.py trainer=ddp output_dir=a b seed=1"
    assert sorted(done.stdout.splitlines()) == [f"{i} {what}" for i in range(3)]


@pytest.mark.slow
def test_two_tasks_train_together_and_the_first_alone_speaks_and_writes(tmp_path: Path) -> None:
    typed = [*TINY, f"output_dir={tmp_path / 'run'}"]
    done = run_file(tmp_path / "bin", 2, *typed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: 4 steps") == 1  # the first process alone speaks
    losses = [row["step"] for row in rows(tmp_path / "run") if row["loss"]]
    assert losses == ["0", "1", "2", "3"]


# Through submitit


@pytest.mark.slow
def test_a_sweep_through_slurm_does_what_it_can_and_says_what_it_could_not(
    tmp_path: Path,
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install '.[slurm]'")
    typed = [
        "launcher=slurm",
        "hydra.launcher.gpus_per_node=null",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
        f"output_dir={tmp_path / 'run'}",
        "data.batch_size=8,100000",
    ]
    kept = [option for option in TINY if not option.startswith("data.batch_size")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *typed, *kept],
        cwd=tmp_path,
        env=stand_ins(tmp_path / "bin"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: batch_size must not exceed the number of training images") == 1
    assert "Traceback" not in done.stderr
    assert len(rows(tmp_path / "run" / "data.batch_size=8")) > 4
    (script,) = (tmp_path / "sweep").glob(".submitit/*/*.sh")
    for line in ("--requeue", "--signal=USR2@120", "--nodes=1", "--ntasks-per-node=1"):
        assert f"#SBATCH {line}\n" in script.read_text()
