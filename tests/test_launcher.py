"""`launcher=slurm`: what it composes to, and the one-sentence mistakes on the way to a cluster."""

import importlib.metadata
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import DictConfig, OmegaConf

from stylex.errors import InputError
from stylex.overrides import check_overrides
from stylex.processes import place

CONFIGS = Path(__file__).parents[1] / "configs"
BATCH = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node[07-08]"}


def composed(*overrides: str) -> DictConfig:
    """With Hydra's own part."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("search", overrides=list(overrides), return_hydra_config=True)


@pytest.fixture
def submitit() -> None:
    """The optional plugin is there."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install '.[slurm]'")


def test_by_default_nothing_is_submitted() -> None:
    config = composed()
    assert "BasicLauncher" in config.hydra.launcher._target_
    assert config.hydra.mode is None
    assert "launcher" not in config


def test_the_configuration_of_a_search_does_not_depend_on_the_launcher(submitit: None) -> None:
    plain = []
    for option in ("local", "slurm"):
        config: Any = OmegaConf.to_container(composed(f"launcher={option}"), resolve=False)
        config.pop("hydra")
        plain.append(config)
    assert plain[0] == plain[1]


def test_slurm_is_asked_for_what_the_file_says(submitit: None) -> None:
    config = composed("launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.nodes=2")
    asked: Any = OmegaConf.to_container(config.hydra.launcher, resolve=False)
    assert asked["_target_"].endswith("SlurmLauncher")
    assert (asked["partition"], asked["nodes"]) == ("gpu", 2)
    for name in ("tasks_per_node", "gpus_per_node", "cpus_per_task", "timeout_min"):
        assert isinstance(asked[name], int), name
    assert config.hydra.mode.name == "MULTIRUN"  # without it Hydra would run the search here


@pytest.mark.parametrize("job", ["123456", "7", "4294967295"])
def test_the_tasks_of_a_job_get_an_address_to_meet(
    submitit: None, tmp_path: Path, job: str
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames node[07-08]" ] && printf "a\\nb\\n"\n')
    scontrol.chmod(0o755)
    lines = [*composed("launcher=slurm").hydra.launcher.setup, "echo $MASTER_ADDR $MASTER_PORT"]
    environment = {**BATCH, "SLURM_JOB_ID": job, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-euc", "\n".join(lines)], env=environment, capture_output=True, text=True
    )
    address, port = done.stdout.split()
    assert address == "a"
    assert 1024 < int(port) < 32768  # below Linux's own choice of ports
    assert done.stderr == ""


def test_two_jobs_of_one_node_have_two_ports(submitit: None) -> None:
    setup = composed("launcher=slurm").hydra.launcher.setup
    (line,) = [line for line in setup if "MASTER_PORT" in line]
    ports = {
        subprocess.check_output(
            ["bash", "-euc", f"{line}; echo $MASTER_PORT"], env={"SLURM_JOB_ID": str(job)}
        )
        for job in range(100, 110)
    }
    assert len(ports) == 10


def test_a_task_of_srun_finds_its_place() -> None:
    task = {**BATCH, "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
    found = place(task)
    assert (found.rank, found.size, found.local_rank) == (3, 4, 1)


# What is refused


def refused(match: str, *overrides: str, several: bool = False) -> None:
    with pytest.raises(InputError, match=match):
        check_overrides("search", list(overrides), several)


def test_without_the_plugin_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    refused(
        r"needs the package hydra-submitit-launcher, got none; pip install -e '.\[slurm\]'",
        "launcher=slurm",
    )
    check_overrides("search", ["launcher=local"])


def test_without_slurm_the_sentence_says_so(
    submitit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    refused("launcher=slurm needs Slurm's srun, got none on this computer", "launcher=slurm")


def test_on_a_cluster_it_passes_with_several_values(
    submitit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    given = ["launcher=slurm", "source=Coat,Dress", "seed=0,1", "hydra.launcher.partition=gpu"]
    check_overrides("search", given, several=True)
    message = "got 'sed'; the nearest one is 'seed'"
    refused(message, "launcher=slurm", "sed=0,1", several=True)


def test_an_unknown_launcher_is_refused() -> None:
    message = "launcher must be one of local, slurm, got 'slum'; did you mean launcher=slurm?"
    refused(message.replace("?", r"\?"), "launcher=slum")


def test_several_values_in_one_run_are_refused() -> None:
    refused("add --multirun for a run of each", "source=Coat,Dress")
    check_overrides("search", ["source=Coat,Dress"], several=True)
