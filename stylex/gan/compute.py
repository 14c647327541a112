"""How a network's blocks compute: type, memory format, clamp, op implementation.

No weight depends on it; a model trained one way runs the other.
Source: StyleGAN2-ADA (Karras et al. 2020, arXiv:2006.06676) and its released recipe: low precision
    in the finest blocks alone; images, sums of ToRGB layers, mapping, affine layers, demodulation
    and the discriminator's last layers stay float32, and so do all parameters.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from stylex.errors import InputError
from stylex.ops import build
from stylex.ops.backend import Impl

FLOAT16_CLAMP = 256.0  # keeps activations far from float16's 65504
LOWER = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """How one block computes.

    Attributes:
        low: Lower type of convolutions and activations; none keeps the weights' (float32).
        channels_last: Whether activations are laid out with the channels innermost.
        impl: Of the ops, see `ops.backend.fused`.
    """

    low: torch.dtype | None
    channels_last: bool
    impl: Impl

    @property
    def clamp(self) -> float:
        """Largest magnitude of activations with the usual gain: 256 in float16, else none."""
        return FLOAT16_CLAMP if self.low == torch.float16 else math.inf

    def dtype(self, weight: Tensor) -> torch.dtype:
        """Type that a layer with this weight computes in."""
        return self.low or weight.dtype

    def arrange(self, x: Tensor) -> Tensor:
        """`x` in this memory format."""
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x


PLAIN = Compute(low=None, channels_last=False, impl="auto")


@dataclass(frozen=True)
class Precision:
    """How a whole network computes.

    Attributes:
        coarse: Blocks of low resolution, and everything beside the blocks.
        fine: The `num_fine` blocks of the highest resolutions, but none below 8 px.
        num_fine: Number of fine blocks.
    """

    coarse: Compute
    fine: Compute
    num_fine: int

    def at(self, resolution_px: int, finest_px: int) -> Compute:
        """Of the block with a resolution, in a network with a finest one."""
        first = max(8, finest_px * 2 // 2**self.num_fine)
        return self.fine if self.num_fine and resolution_px >= first else self.coarse


def precision(settings: Mapping[str, Any], device: torch.device) -> Precision:
    """How networks compute on a device.

    Args:
        settings: The configuration's `ops` group; see configs/ops/default.yaml.
        device: Where the networks are.

    Raises:
        InputError: If a setting is unknown.
    """
    on_cuda = device.type == "cuda"
    if settings["impl"] not in get_args(Impl):
        raise InputError(f"ops.impl must be one of {get_args(Impl)}, got '{settings['impl']}'")
    name = settings["precision"]
    if name == "auto":
        name = "bfloat16" if on_cuda else "float32"
    if name not in LOWER:
        raise InputError(f"ops.precision must be auto or one of {tuple(LOWER)}, got '{name}'")
    if settings["channels_last"] not in (True, False):
        raise InputError(
            f"ops.channels_last must be true or false, got '{settings['channels_last']}'"
        )
    last = settings["channels_last"]
    coarse = Compute(None, last, settings["impl"])
    return Precision(
        coarse, Compute(LOWER[name], last, settings["impl"]), settings["low_precision_blocks"]
    )


def lower_type(key: str, name: str | None) -> torch.dtype | None:
    """The type of a name; none for none and float32.

    Args:
        key: What the user calls the setting.
        name: float32, bfloat16, float16 or none.

    Raises:
        InputError: If it is anything else.
    """
    if name is not None and name not in LOWER:
        raise InputError(f"{key} must be null or one of {', '.join(LOWER)}, got '{name}'")
    return None if name is None else LOWER[name]


def switch(setting: bool | str, automatic: bool) -> bool:
    """A switch that is true, false or auto.

    Raises:
        InputError: If it is anything else.
    """
    if setting not in (True, False, "auto"):
        raise InputError(f"a switch of ops must be true, false or auto, got '{setting}'")
    return automatic if setting == "auto" else bool(setting)


def require_ops(settings: Mapping[str, Any], device: torch.device) -> None:
    """Builds or loads the CUDA ops where training will use them.

    Raises:
        BuildError: If they cannot be had and `ops.impl` is not `reference`: training on the slower
            ops without being asked to would waste days.
    """
    if device.type == "cuda" and settings["impl"] != "reference":
        build.load()


def choose_device(name: str, local_rank: int) -> str:
    """The device to compute on: on CUDA the one of this process's rank on its computer."""
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda needs a GPU that torch can use, got none; give device=cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{local_rank % torch.cuda.device_count()}"
