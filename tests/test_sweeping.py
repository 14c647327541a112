"""Several runs of one command: their folders, their mistakes, and studies that go on."""

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from doors import ROOT, code_of

from stylex.errors import InputError
from stylex.overrides import check_overrides
from stylex.training.study import objective

SMALL = ["task=classifier", "classifier=small_cnn", "cpu_threads=1", "trainer.accelerator=cpu"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which a door sets; put back afterwards


def opened(typed: list[str], fails: Callable[[dict[str, Any]], bool]) -> tuple[Any, list[Any]]:
    """The exit code of train.py's door with a run that only looks, and what each run was given."""
    found: list[dict[str, Any]] = []

    def run(config: dict[str, Any], raw: Any) -> float:
        found.append(config)
        if fails(config):
            raise InputError(f"seed must be even, got {config['seed']}; give another")
        return float(config["seed"])

    return code_of("train", run, typed), found


def never(config: dict[str, Any]) -> bool:
    return False


def test_each_run_of_several_has_a_folder_named_after_its_values() -> None:
    typed = ["-m", "seed=0,1", "training.learning_rate=0.1,0.2", "output_dir=runs/x"]
    code, found = opened([*typed, "training.num_steps=5"], never)
    assert code == 0
    assert [config["output_dir"] for config in found] == [
        "runs/x/seed=0,training.learning_rate=0.1",
        "runs/x/seed=0,training.learning_rate=0.2",
        "runs/x/seed=1,training.learning_rate=0.1",
        "runs/x/seed=1,training.learning_rate=0.2",
    ]


def test_a_group_of_several_options_names_the_folders_too() -> None:
    _, found = opened(["-m", "classifier=fashion,small_cnn"], never)
    folders = [config["output_dir"] for config in found]
    assert folders == ["runs/stylex/classifier=fashion", "runs/stylex/classifier=small_cnn"]


def test_a_folders_name_holds_no_path_and_is_no_longer_than_a_file_systems() -> None:
    long = "a/../" * 60
    _, found = opened(["-m", f"data.augmentation={long}b,{long}c"], never)
    names = [Path(config["output_dir"]).name for config in found]
    assert len(set(names)) == 2
    assert all(len(name) <= 150 for name in names)
    assert all(Path(config["output_dir"]).parent == Path("runs/stylex") for config in found)


def test_one_run_keeps_its_folder() -> None:
    for typed in (["seed=3"], ["-m", "seed=3"]):
        _, found = opened([*typed, "output_dir=runs/x"], never)
        assert [config["output_dir"] for config in found] == ["runs/x"]


def test_folders_that_are_given_are_kept_and_refused_if_two_runs_share_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, found = opened(["-m", "seed=0,1", "output_dir=x/${hydra:job.num}"], never)
    assert (code, [config["output_dir"] for config in found]) == (0, ["x/0", "x/1"])
    code, found = opened(["-m", "seed=0,1,2", "output_dir=y/${hydra:job.name}"], never)
    assert (code, len(found)) == (2, 1)
    assert "error: runs must have an output_dir each, got 'y/" in capsys.readouterr().err


def test_a_run_that_is_refused_says_so_and_the_others_are_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, found = opened(["-m", "seed=0,1,2,3"], lambda config: config["seed"] % 2 == 1)
    err = capsys.readouterr().err
    assert code == 2
    assert [config["seed"] for config in found] == [0, 1, 2, 3]
    for seed in (1, 3):
        assert err.count(f"error: seed must be even, got {seed}; give another\n") == 1
    assert "Traceback" not in err


def test_what_must_be_given_is_said_in_a_sweep_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = opened(["-m", "data=folder", "data.resolution=32", "seed=0,1"], never)
    assert (code, found) == (2, [])
    assert "error: data.root must be given, got nothing; add data.root=VALUE" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("training.learning_rate=nix,0.001", "learning_rate must be a number, got 'nix'"),
        ("training.num_steps=5,true", "num_steps must be a number, got 'True'"),
        ("training.permuted_labels=true,3", "permuted_labels must be true or false, got '3'"),
        ("training=classifier,{a:1}", "training must be one of"),
        ("trainer.max_time={a:1},{b:1}", "the nearest one is 'trainer"),
    ],
)
def test_a_wrong_kind_among_several_values_is_refused_before_any_run(
    typed: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = opened(["-m", *SMALL, typed], never)
    assert (code, found) == (2, [])
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err


def test_a_range_of_numbers_gives_a_run_each() -> None:
    code, found = opened(["-m", "seed=range(0,3)"], never)
    assert code == 0
    assert [config["seed"] for config in found] == [0, 1, 2]


# Studies


def test_the_objective_is_the_best_models_value(tmp_path: Path) -> None:
    assert objective(tmp_path) is None
    (tmp_path / "checkpoints" / "best").mkdir(parents=True)
    (tmp_path / "checkpoints" / "best" / "best.json").write_text(json.dumps({"value": -0.5}))
    assert objective(tmp_path) == -0.5


def test_without_the_plugin_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(InputError, match=r"needs the package hydra-optuna-sweeper, got none; pip"):
        check_overrides("train", ["sweeper=optuna"])


STUDY = """
import sys
from stylex.door import open_door
from stylex.errors import InputError

def run(config, raw):
    rate = config["training"]["learning_rate"]
    print("trial", rate, config["output_dir"], flush=True)
    if rate < float(sys.argv[0]):
        raise InputError(f"training.learning_rate must be higher, got {rate}; give another")
    return None if config["seed"] == 9 else (rate - 0.3) ** 2

open_door("train", run)
"""


def study(folder: Path, *typed: str, least: float = 0.0) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install '.[optuna]'")
    code = STUDY.replace("sys.argv[0]", repr(str(least)))
    rate = "training.learning_rate=interval(0.1,0.9)"
    return subprocess.run(
        [sys.executable, "-c", code, "sweeper=optuna", rate, f"output_dir={folder}", *typed],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def trials(done: subprocess.CompletedProcess[str]) -> list[float]:
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("trial")]
    assert all(line[2].endswith(f"training.learning_rate={line[1]}") for line in lines)
    return [float(line[1]) for line in lines]


@pytest.mark.slow
def test_a_study_lowers_what_its_runs_return_and_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    first = study(folder, "hydra.sweeper.n_trials=3")
    assert first.returncode == 0, first.stderr
    second = study(folder, "hydra.sweeper.n_trials=2")
    assert second.returncode == 0, second.stderr
    rates = [*trials(first), *trials(second)]
    assert len(set(rates)) == 5
    best = min(rates, key=lambda rate: (rate - 0.3) ** 2)
    found = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert found["best_params"] == {"training.learning_rate": pytest.approx(best)}


def test_a_trial_that_is_refused_ends_the_study_in_its_sentence(tmp_path: Path) -> None:
    done = study(tmp_path / "study", "hydra.sweeper.n_trials=2", least=2.0)
    assert done.returncode == 2
    assert done.stderr.count("error: training.learning_rate must be higher, got") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_study_without_a_value_to_lower_is_refused(tmp_path: Path) -> None:
    done = study(tmp_path / "study", "seed=9", "hydra.sweeper.n_trials=1")
    assert done.returncode == 2
    assert "error: sweeper=optuna lowers the best validation value, got none" in done.stderr
    assert "Traceback" not in done.stderr
