"""How Lightning finds the processes that train together."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from stylex.errors import InputError
from stylex.processes import place


class SeparateProcesses(DDPStrategy):
    """One process per device; modules average their gradients themselves, nothing is wrapped."""

    def configure_ddp(self) -> None:
        """Leaves the module as it is."""


def settle(settings: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """The trainer's settings, with the devices and nodes that torchrun or srun decided on.

    Args:
        settings: The configuration's `trainer`.
        environment: Of the process.

    Raises:
        InputError: If several processes were started for a trainer of one.
    """
    found, size = dict(settings), place(environment).size
    if size == 1:
        return found
    if "strategy" not in found:
        raise InputError(
            f"processes that train together need trainer=ddp, got {size} processes without it; add "
            "it, or start one"
        )
    if "SLURM_NTASKS" in environment and "SLURM_NTASKS_PER_NODE" not in environment:
        raise InputError(
            f"trainer=ddp under Slurm needs --ntasks-per-node, got {size} tasks without it; add it "
            "to sbatch or srun"
        )
    nodes = environment.get("SLURM_NNODES", "1")
    here = environment.get("LOCAL_WORLD_SIZE") or str(size // int(nodes if nodes.isdigit() else 1))
    if found["devices"] == "auto" and here.isdigit():
        found["devices"], found["num_nodes"] = int(here), size // int(here)
    return found
