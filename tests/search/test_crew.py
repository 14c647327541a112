"""Several processes search as one: their places, and results that do not depend on their number."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pictured import arguments, model_of_pictures

from stylex.errors import InputError
from stylex.processes import Place, place
from stylex.search.crew import Crew, assembled

ROOT = Path(__file__).parents[2]
SEARCH = ROOT / "search.py"
PATIENCE_S = 120


# One process's place


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Place()),
        ({"HOME": "/"}, Place(0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Place(3, 4, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Place(1, 2, 0)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}, Place(5, 8, 1)),
        ({"SLURM_NTASKS": "8"}, Place()),  # of a batch script that starts none
        (
            {"SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_NTASKS": "2"}
            | {"SUBMITIT_LOCAL_LOCALID": "1"},
            Place(1, 2, 1),
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
            | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"},
            Place(1, 2, 1),
        ),  # torchrun inside of a Slurm job
    ],
)
def test_a_place_is_what_the_starter_says(environment: dict[str, str], expected: Place) -> None:
    assert place(environment) == expected


@pytest.mark.parametrize("starter", ["torchrun", "srun"])
@pytest.mark.parametrize("wrong", ["", "one", "-1", "0.5"])
def test_a_place_that_is_no_number_is_refused(starter: str, wrong: str) -> None:
    names = {"torchrun": ("RANK", "WORLD_SIZE"), "srun": ("SLURM_PROCID", "SLURM_NTASKS")}[starter]
    with pytest.raises(InputError, match=f"{names[0]}, {names[1]}, .* must be numbers, got"):
        place({names[0]: wrong, names[1]: "2"})


@pytest.mark.parametrize("missing", ["MASTER_ADDR", "MASTER_PORT"])
def test_several_processes_need_an_address_to_meet(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.delenv(missing)
    with pytest.raises(InputError, match=f"2 processes need {missing} to meet, got none"):
        assembled(Place(0, 2)).__enter__()


# One process alone


def test_one_process_runs_every_task_itself() -> None:
    with assembled(Place()) as crew:
        assert crew.leads
        assert list(crew.share(5)) == [0, 1, 2, 3, 4]
        part = torch.ones(3)
        assert crew.merge(part) is part
        assert crew.call(added, 1, 2) == 3
        crew.wait()
        crew.dismiss()


def added(_crew: Crew, one: int, other: int) -> int:
    """A task."""
    return one + other


@pytest.mark.parametrize("count", [0, 1, 5, 12])
@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_every_piece_is_one_processs(count: int, size: int) -> None:
    shares = [list(Crew(Place(rank, size)).share(count)) for rank in range(size)]
    assert sorted(piece for share in shares for piece in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# Several processes, as torchrun starts them

Started = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def started() -> Iterator[Started]:
    """Starts a script in several processes; ends what is left, whatever happens."""
    processes: list[subprocess.Popen[str]] = []

    def start(*overrides: str, size: int, script: Path = SEARCH) -> list[subprocess.Popen[str]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        crew = []
        for rank in range(size):
            mine = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
            crew.append(
                subprocess.Popen(
                    [sys.executable, str(script), *overrides],
                    cwd=ROOT,
                    env={**os.environ, **meeting, **mine, "PYTHONPATH": str(ROOT)},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        processes.extend(crew)
        return crew

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(crew: list[subprocess.Popen[str]]) -> list[str]:
    """What each printed, once all have ended well."""
    printed = [process.communicate(timeout=PATIENCE_S) for process in crew]
    assert [process.returncode for process in crew] == [0] * len(crew), printed
    return [out for out, _ in printed]


@pytest.fixture
def given(tiny_config: dict[str, Any], tmp_path: Path) -> list[str]:
    """A model, pictures and a small search, as arguments."""
    question = arguments(model_of_pictures(tiny_config), tiny_config, tmp_path)
    return [*question, "search.num_images=16", "search.num_random=2", "search.unstable_share=1"]


@pytest.mark.slow
@pytest.mark.parametrize("effects", ["screened", "exhaustive"])
def test_two_processes_find_what_one_finds_byte_for_byte(
    given: list[str], tmp_path: Path, started: Started, effects: str
) -> None:
    written = []
    for size in (1, 2):
        folder = tmp_path / f"of-{size}"
        question = [*given, f"search.effects={effects}", f"output_dir={folder}"]
        printed = finished(started(*question, size=size))
        assert "What makes the classifier say square" in printed[0]
        assert not any("What makes" in text for text in printed[1:])  # the leader alone reports
        written.append({name: (folder / f"{name}.json").read_bytes() for name in RESULTS})
        written[-1]["edits"] = (folder / "edits" / "stylex.safetensors").read_bytes()
    assert written[0] == written[1]
    assert json.loads(written[0]["attributes"])["selection"]["effects"] == effects


RESULTS = ("attributes", "metrics")


@pytest.mark.slow
def test_a_comparison_of_two_processes_is_that_of_one(
    given: list[str], tmp_path: Path, started: Started
) -> None:
    written = []
    for size in (1, 2):
        folder = tmp_path / f"of-{size}"
        compared = "compare=[checkpoint,checkpoint]"
        finished(started(*given, compared, f"output_dir={folder}", size=size))
        written.append((folder / "comparison.json").read_bytes())
    assert written[0] == written[1]


@pytest.mark.slow
def test_a_mistake_ends_all_processes_with_its_sentence(
    given: list[str], tmp_path: Path, started: Started
) -> None:
    crew = started(*given, "target=circle", f"output_dir={tmp_path / 'output'}", size=2)
    errors = [process.communicate(timeout=PATIENCE_S)[1] for process in crew]
    assert crew[0].returncode == 2
    assert errors[0].count("error: source and target must be two classes, got 'circle' twice") == 1
    assert crew[1].returncode == 0, errors


@pytest.mark.slow
def test_a_killed_process_ends_the_crew_and_the_same_command_goes_on(
    given: list[str], tmp_path: Path, started: Started
) -> None:
    slow = [*given, "search.effects=exhaustive", "search.batch_size=1"]
    folder = tmp_path / "killed"

    def done() -> dict[str, int]:
        chunks = (folder / "effects.zarr" / "done" / "c").glob("*")
        # A partial file becomes its chunk between being listed and being looked at.
        whole = [chunk for chunk in chunks if chunk.suffix != ".partial"]
        return {chunk.name: chunk.stat().st_mtime_ns for chunk in whole}

    crew = started(*slow, f"output_dir={folder}", size=2)
    deadline = time.monotonic() + PATIENCE_S
    while len(done()) < 2:
        assert crew[0].poll() is None, crew[0].communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    crew[1].send_signal(signal.SIGKILL)
    crew[0].communicate(timeout=PATIENCE_S)
    assert crew[0].returncode != 0
    assert not (folder / "attributes.json").exists()
    before = done()
    finished(started(*slow, f"output_dir={folder}", size=2))
    assert {name: mark for name, mark in done().items() if name in before} == before
    whole = tmp_path / "whole"
    finished(started(*slow, f"output_dir={whole}", size=1))
    for name in RESULTS:
        assert (folder / f"{name}.json").read_bytes() == (whole / f"{name}.json").read_bytes()


TASKS = """
import torch

def broken(crew):
    if crew.leads:
        raise ValueError("the leader fails alone")
    return crew.merge(torch.ones(3))
"""
SCRIPT = """
import os
import tasks
from stylex.processes import place
from stylex.search.crew import assembled

with assembled(place(os.environ)) as crew:
    if crew.leads:
        try:
            crew.call(tasks.broken)
        finally:
            crew.dismiss()
    else:
        crew.serve()
"""


@pytest.mark.slow
def test_a_leader_that_fails_amid_a_task_leaves_nobody_waiting(
    tmp_path: Path, started: Started
) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "script.py").write_text(SCRIPT)
    crew = started(size=2, script=tmp_path / "script.py")
    errors = [process.communicate(timeout=PATIENCE_S)[1] for process in crew]
    assert [process.returncode for process in crew] == [1, 1]
    assert "ValueError: the leader fails alone" in errors[0]
