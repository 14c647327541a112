"""Optimisers of a GAN with lazy penalties, and what happens around their steps."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stylex.processes import Share


def adam(
    parameters: list[nn.Parameter],
    settings: Mapping[str, Any],
    factor: float,
    interval: int | None,
    fused: bool,
) -> torch.optim.Optimizer:
    """Adam that makes k + 1 updates where k were meant, if a lazy phase follows every k-th.

    Args:
        parameters: What it changes.
        settings: With `learning_rate` and `betas`.
        factor: On the learning rate.
        interval: k of the lazy phase; none without one.
        fused: Whether one CUDA kernel does the update.

    Source: Karras et al. 2020 (arXiv:1912.04958), appendix B.
    """
    ratio = 1.0 if interval is None else interval / (interval + 1)
    rate = settings["learning_rate"] * factor * ratio
    first, second = (float(beta) ** ratio if beta else 0.0 for beta in settings["betas"])
    groups = [{"params": parameters, "initial_lr": rate}]
    return torch.optim.Adam(groups, rate, betas=(first, second), eps=1e-8, fused=fused or None)


@contextmanager
def learning(
    optimisers: Mapping[str, torch.optim.Optimizer],
    names: tuple[str, ...],
    factor: float,
    replaced: Tensor,
    share: Share,
) -> Iterator[None]:
    """Lets only the named networks learn in the block, and takes their step at its end.

    Args:
        optimisers: Of all networks, by name.
        names: Of those that learn.
        factor: On their initial learning rates.
        replaced: Counts, in place, the gradient tensors in which a value was not finite.
        share: Averages the gradients over the processes.
    """
    for name, optimiser in optimisers.items():
        for parameter in _parameters(optimiser):
            parameter.requires_grad_(name in names)
            parameter.grad = None
    yield
    for name in names:
        gradients = [p.grad for p in _parameters(optimisers[name]) if p.grad is not None]
        if gradients:
            share.average(gradients)
            replaced += _make_finite(gradients)
        for group in optimisers[name].param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimisers[name].step()


def _parameters(optimiser: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    for group in optimiser.param_groups:
        yield from group["params"]


def _make_finite(gradients: list[Tensor]) -> Tensor:
    """Replaces what is no number by 0 and what is infinite by ±1e5; counts the tensors with such.

    Low precision runs without a loss scale: an overflow must not end a run, and must be seen.
    Source: StyleGAN2-ADA's released recipe (Karras et al. 2020, arXiv:2006.06676).
    """
    largest = torch.stack(torch._foreach_norm(gradients, torch.inf))
    for gradient in gradients:
        torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)
    return (~largest.isfinite()).sum()
