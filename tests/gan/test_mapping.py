"""The mapping network."""

import math

import torch

from stylex.gan.mapping import Mapping


def test_mapping_equals_normalisation_and_layers_with_learning_rate_multiplier_001() -> None:
    mapping = Mapping(5, 3).double()
    with torch.no_grad():
        for layer in mapping.layers:
            layer.bias.normal_(std=100)
    z = torch.randn(4, 5, dtype=torch.float64)

    x = torch.stack([row / math.sqrt(float((row**2).sum()) / 5 + 1e-8) for row in z])
    for layer in mapping.layers:
        x = x @ (0.01 * layer.weight / math.sqrt(5)).T + 0.01 * layer.bias
        x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)

    assert len(mapping.layers) == 3
    torch.testing.assert_close(mapping(z), x)


def test_only_the_direction_of_z_counts() -> None:
    mapping = Mapping(6, 2).double()
    z = torch.randn(3, 6, dtype=torch.float64)

    torch.testing.assert_close(mapping(7 * z), mapping(z), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(mapping(-z), mapping(z))


def test_a_new_mapping_keeps_the_mean_square_near_one() -> None:
    latents = Mapping(256, 8).requires_grad_(False)(torch.randn(64, 256))

    assert 0.5 < float(latents.square().mean()) < 2
