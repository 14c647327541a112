"""Which implementation of an op runs: plain PyTorch, or the registered op with its CUDA kernel.

The registered ops exist on every device, so that their derivatives can be tested anywhere: on a
CPU their kernels are PyTorch expressions, on CUDA the library that `build` compiles.
"""

import functools
import logging
from typing import Literal

import torch
from torch import Tensor

from stylex.ops import build

Impl = Literal["auto", "reference", "fused"]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # of the CUDA kernels
LOGGER = logging.getLogger("stylex.ops")


def explicit(impl: Impl, x: Tensor) -> bool:
    """Whether a registered op that needs no library is to be used: `auto` says not on a CPU.

    There it costs more in the main phases than it saves in the penalties (benchmarks/results).
    """
    return impl == "fused" or (impl == "auto" and x.is_cuda)


def fused(impl: Impl, x: Tensor) -> bool:
    """Whether the registered op is to be used for `x`, rather than plain PyTorch.

    Args:
        impl: `reference` for plain PyTorch, `fused` for the registered op, `auto` for the
            registered op on CUDA if its library can be had, which is said once in the log.
        x: The activation that the op works on.

    Raises:
        BuildError: If `fused` is asked for on CUDA and the library cannot be had.
        ValueError: If `fused` is asked for on CUDA with a type that has no kernel.
    """
    if impl == "reference":
        return False
    if not x.is_cuda:
        if impl == "auto":
            _say("ops: plain PyTorch, since the tensors are on the CPU")
        return impl == "fused"
    if x.dtype not in DTYPES:
        if impl == "fused":
            raise ValueError(f"fused ops take float32, float16 or bfloat16, got {x.dtype}")
        _say(f"ops: plain PyTorch for {x.dtype}, which has no kernel")
        return False
    return available(impl == "fused")


@torch.compiler.assume_constant_result
def available(required: bool) -> bool:
    """Whether the CUDA library is loaded or could be built; the answer is logged once.

    Raises:
        BuildError: If it is required and cannot be had.
    """
    try:
        build.load()
    except build.BuildError as error:
        if required:
            raise
        _say(f"ops: plain PyTorch on CUDA, which is slower, since {error}", logging.WARNING)
        return False
    _say("ops: fused CUDA kernels, since the tensors are on a GPU")
    return True


@torch.compiler.assume_constant_result
@functools.cache
def _say(text: str, level: int = logging.INFO) -> None:
    """Logs a text once."""
    LOGGER.log(level, text)


def layout(x: Tensor) -> torch.memory_format:
    """The memory format that an op keeps: channels_last only where nothing else explains x."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not x.is_contiguous() else torch.contiguous_format


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in the type that an op computes in: float64 stays, all else becomes float32."""
    return x if x.dtype == torch.float64 else x.float()
