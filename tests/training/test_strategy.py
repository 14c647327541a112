"""What torchrun and srun decided reaches the trainer, and a run of several is asked for by name."""

import pytest
from lightning import Trainer
from torch import nn

from stylex.errors import InputError
from stylex.training.strategy import SeparateProcesses, settle

ONE = {"accelerator": "cpu", "devices": 1}
DDP = {"accelerator": "cpu", "devices": "auto", "num_nodes": 1, "strategy": "any"}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SRUN = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NNODES": "2"}
SRUN["SLURM_NTASKS_PER_NODE"] = "4"


@pytest.mark.parametrize("environment", [TORCHRUN, SRUN])
def test_devices_and_nodes_are_the_starters(environment: dict[str, str]) -> None:
    found = settle(DDP, environment)

    assert (found["devices"], found["num_nodes"]) == (4, 2)


def test_a_number_that_was_asked_for_stays() -> None:
    assert settle({**DDP, "devices": 2}, TORCHRUN)["devices"] == 2


@pytest.mark.parametrize("settings", [ONE, DDP])
def test_alone_nothing_is_decided(settings: dict[str, object]) -> None:
    assert settle(settings, {}) == settings


def test_several_processes_without_the_option_are_refused() -> None:
    with pytest.raises(InputError, match=r"need trainer=ddp, got 8 processes without it"):
        settle(ONE, TORCHRUN)


def test_tasks_of_slurm_need_a_number_for_each_computer() -> None:
    without = {name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"}
    with pytest.raises(InputError, match=r"needs --ntasks-per-node, got 8 tasks without it"):
        settle(DDP, without)


def test_the_strategy_leaves_the_module_as_it_is() -> None:
    trainer = Trainer(accelerator="cpu", devices=2, strategy=SeparateProcesses(), logger=False)
    module = nn.Linear(1, 1)
    trainer.strategy.model = module

    trainer.strategy.configure_ddp()

    assert trainer.strategy.model is module
