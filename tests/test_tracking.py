"""Weights & Biases: one run for a folder, offline and online, whatever ends a process."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger
from wandb.proto import wandb_internal_pb2
from weights_server import Weights, serving

from stylex.errors import InputError
from stylex.loggers import check_loggers, end_loggers, log_config, public
from stylex.tracking import RUN_FILE, Wandb, begin_anew, enduring, has_key

ROOT = Path(__file__).parents[1]
KEY = "a" * 40


@pytest.fixture(autouse=True)
def _without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RUN_FILE).read_text())


def histories(folder: Path) -> list[list[dict[str, Any]]]:
    """The rows of each part of an offline run, in order."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime):
        rows = [record.history for record in records(path) if record.HasField("history")]
        found.append(
            [{(i.key or i.nested_key[0]): json.loads(i.value_json) for i in r.item} for r in rows]
        )
    return found


def records(path: Path) -> Iterator[wandb_internal_pb2.Record]:
    """The records of an offline run's file: blocks of 32 KiB, each piece with its length and kind.

    A record may be in several pieces: whole 1, first 2, middle 3, last 4.
    """
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if left < 7 or kind == 0:
            at += left
            continue
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


# Offline


def logged(folder: Path, steps: range) -> None:
    """A process that logs some steps offline and ends as it should."""
    logger = Wandb(project="stylex", save_dir=str(folder), offline=True)
    for step in steps:
        logger.log_metrics({"loss": 0.5 * step}, step)
        logger.log_metrics({"validation_accuracy": 0.25}, step)
    end_loggers([logger], well=True)


def test_a_run_that_goes_on_is_the_same_run_and_sends_no_step_twice(tmp_path: Path) -> None:
    logged(tmp_path, range(4))
    first = kept(tmp_path)
    assert first["step"] == 3
    logged(tmp_path, range(2, 6))  # its last state was at step 2
    assert kept(tmp_path) == {"id": first["id"], "step": 5}
    parts = histories(tmp_path)
    steps = [[row["trainer/global_step"] for row in part] for part in parts]
    assert steps == [[0, 1, 2, 3], [4, 5]]
    assert [[row["_step"] for row in part] for part in parts] == steps
    assert parts[1][0]["loss"] == 2.0
    assert parts[1][0]["validation_accuracy"] == 0.25
    folders = list(tmp_path.glob("wandb/offline-run-*"))
    assert all(first["id"] in folder.name for folder in folders)


def test_a_run_that_starts_again_is_another_run(tmp_path: Path) -> None:
    logged(tmp_path, range(2))
    first = kept(tmp_path)["id"]
    begin_anew(tmp_path)
    logged(tmp_path, range(2))
    assert kept(tmp_path)["id"] != first
    assert [len(part) for part in histories(tmp_path)] == [2, 2]


def test_without_a_key_it_is_offline_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = Wandb(project="stylex", save_dir=str(tmp_path), offline=None)
    with caplog.at_level(logging.WARNING, "stylex"):
        for step in range(3):
            logger.log_metrics({"loss": 1.0}, step)
    end_loggers([logger], well=True)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "stylex.tracking"]
    assert line.startswith("wandb: no key is given")
    assert f"wandb sync {tmp_path}/wandb/offline-run-*" in line
    assert len(histories(tmp_path)) == 1


def test_the_configuration_goes_along_without_secrets(tmp_path: Path) -> None:
    config = {"seed": 3, "logger": {"wandb": 1}, "data": {"root": "a", "hub_token": "x"}}
    logger = Wandb(project="stylex", save_dir=str(tmp_path), offline=True)
    log_config([logger], config)
    end_loggers([logger], well=True)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"root" in path.read_bytes()
    assert b"hub_token" not in path.read_bytes()
    assert public(config) == {"seed": 3, "logger": {"wandb": 1}, "data": {"root": "a"}}


def test_a_key_is_found_in_the_environment_and_in_a_netrc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not has_key()
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://other.example")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_key()


def test_a_server_that_is_asked_for_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"wandb": {"_target_": "stylex.tracking.Wandb", "offline": False}}
    with pytest.raises(InputError, match="logger.wandb.offline=false needs a key, got none; give"):
        check_loggers(settings)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    check_loggers(settings)


def test_a_logger_that_fails_says_so_once_and_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    logger = Wandb(project="stylex", save_dir=str(tmp_path / "file" / "run"), offline=True)
    with caplog.at_level(logging.WARNING, "stylex"):
        for step in range(3):
            logger.log_metrics({"loss": 1.0}, step)
    (line,) = [r.getMessage() for r in caplog.records if r.name == "stylex.tracking"]
    assert line.startswith("Wandb failed (")
    assert line.endswith("the run goes on, and metrics.csv has every figure")


def test_what_is_no_failure_of_a_logger_comes_through(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    with pytest.raises(KeyboardInterrupt), enduring(logger):
        raise KeyboardInterrupt


# A server


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[Weights]:
    with serving() as found:
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield found


PROCESS = """
import os, signal, sys, time
import torch
from stylex.loggers import end_loggers, log_config, log_picture
from stylex.tracking import Wandb

folder, offline, begin, end, killed = sys.argv[1], sys.argv[2] == "offline", *map(int, sys.argv[3:])
logger = Wandb(project="stylex", save_dir=folder, offline=offline)
log_config([logger], {"seed": 5})
for step in range(begin, end):
    logger.log_metrics({"loss": float(step)}, step)
    if step % 5 == 0:
        log_picture([logger], "samples", torch.full((3, 8, 8), step, dtype=torch.uint8), step)
if killed:
    time.sleep(3)  # of which the last second may be lost
    os.kill(os.getpid(), signal.SIGKILL)
end_loggers([logger], well=True)
"""


def process(folder: Path, mode: str, begin: int, end: int, killed: int) -> None:
    """A process of its own that logs some steps."""
    given = [str(folder), mode, str(begin), str(end), str(killed)]
    own = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}  # not this process's
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, *given],
        env={**own, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr
    assert "failed (" not in done.stderr, done.stderr


@pytest.mark.slow
def test_sync_joins_what_a_killed_run_and_the_one_that_went_on_wrote_offline(
    weights: Weights, tmp_path: Path
) -> None:
    process(tmp_path, "offline", 0, 15, killed=1)
    process(tmp_path, "offline", 10, 20, killed=0)
    assert weights.runs == {}
    parts = sorted(map(str, tmp_path.glob("wandb/offline-run-*")))
    assert len(parts) == 2
    sync = [str(Path(sys.executable).parent / "wandb"), "sync", *parts]
    done = subprocess.run(sync, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (name,) = weights.runs
    run = weights.runs[name]
    assert name == kept(tmp_path)["id"]
    assert [row["_step"] for row in run["history"]] == list(range(20))
    assert [row["loss"] for row in run["history"]] == list(range(20))
    assert run["config"]["seed"]["value"] == 5
    assert len([file for file in run["files"] if file.startswith("media/images/samples")]) == 4


@pytest.mark.slow
def test_online_a_run_that_goes_on_goes_on_there(weights: Weights, tmp_path: Path) -> None:
    process(tmp_path, "online", 0, 6, killed=0)
    process(tmp_path, "online", 4, 9, killed=0)
    (name,) = weights.runs
    assert name == kept(tmp_path)["id"]
    assert [row["_step"] for row in weights.runs[name]["history"]] == list(range(9))
