"""Gradients of R1 and path length of small networks; run as a script, inside a compiled graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stylex.gan.compute import Compute, Precision
from stylex.gan.generator import Generator
from stylex.gan.residual import Discriminator
from stylex.training.losses import path_length_penalty, path_lengths, r1_penalty

FUSED = Precision(*(2 * [Compute(None, channels_last=False, impl="fused")]), num_fine=0)
REFERENCE = Precision(*(2 * [Compute(None, channels_last=False, impl="reference")]), num_fine=0)


def discriminator(precision: Precision) -> Discriminator:
    torch.manual_seed(0)
    network = Discriminator(16, 3, 64, 16, num_classes=2, minibatch_group=2)
    network.set_precision(precision)
    return network.double()


def generator(precision: Precision) -> Generator:
    torch.manual_seed(0)
    network = Generator(16, 3, 6, 64, 16, noise=True)
    for name, value in network.named_parameters():
        if name.endswith("noise_strength"):
            nn.init.constant_(value, 0.3)
    network.set_precision(precision)
    return network.double()


def r1_gradients(precision: Precision, wrap: Callable[[Any], Any]) -> list[Tensor]:
    """Gradient of the R1 penalty for every weight of the discriminator."""
    network = discriminator(precision)
    torch.manual_seed(1)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64).requires_grad_()
    shares = torch.rand(4, 2, dtype=torch.float64)

    def penalty(images: Tensor) -> Tensor:
        return r1_penalty(network(images, shares), images)

    wrap(penalty)(images).backward()
    return [torch.zeros(()) if p.grad is None else p.grad for p in network.parameters()]


def path_gradients(precision: Precision, wrap: Callable[[Any], Any]) -> list[Tensor]:
    """Gradient of the path length penalty for every weight of the generator."""
    network = generator(precision)
    torch.manual_seed(1)
    latents = torch.randn(3, network.num_latents, 6, dtype=torch.float64).requires_grad_()
    noise = torch.randn(3, 3, 16, 16, dtype=torch.float64)

    def penalty(latents: Tensor) -> Tensor:
        lengths = path_lengths(network(latents), latents, noise)
        return path_length_penalty(lengths, torch.tensor(0.1, dtype=torch.float64))

    wrap(penalty)(latents).backward()
    return [torch.zeros(()) if p.grad is None else p.grad for p in network.parameters()]


PENALTIES = {"r1": r1_gradients, "path_length": path_gradients}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The whole penalty, inner gradient included, in one graph."""
    return torch.compile(function, backend="aot_eager", fullgraph=True)


if __name__ == "__main__":
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        for name, gradients in PENALTIES.items():
            expected, found = gradients(REFERENCE, lambda f: f), gradients(FUSED, compiled)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other)
            print(name, "equal")
