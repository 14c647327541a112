"""Crossed coordinates: where they come from, and what the networks are asked of them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from stylex.processes import Share
from stylex.training.crossing import Crossing, crossed
from stylex.training.losses import style_distance
from stylex.types import Images
from tests.training.conftest import Batch, MakeModule
from tests.training.test_stylex_module import take_steps


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_coordinate_is_the_images_own_or_its_neighbours() -> None:
    styles = torch.randn(6, 50)

    found = crossed(styles, seeded())

    own, neighbours = found == styles, found == styles.roll(1, dims=0)
    assert (own | neighbours).all()
    shares = neighbours.float().mean(dim=1)
    assert shares.max() - shares.min() > 0.3  # each image draws its own


def test_equal_images_cross_to_themselves() -> None:
    styles = torch.randn(1, 50).expand(4, -1)

    assert torch.equal(crossed(styles, seeded()), styles)


def test_the_cycle_is_zero_for_an_encoder_that_finds_the_coordinates_and_only_then() -> None:
    def terms(error: float) -> dict[str, tuple[float, Tensor]]:
        crossing = Crossing(
            synthesis=lambda styles: styles[:, :, None, None],
            styles_of=lambda images: images[:, :, 0, 0] + error,
            probabilities_of=lambda images: torch.full((len(images), 2), 0.5),
            judge=lambda images, _: images.mean(dim=(1, 2, 3)),
            sizes=[2, 1],
            weights={"crossed": 1.0, "style_cycle": 1.0},
            share=Share(),
        )
        return crossing.terms(torch.randn(4, 3), seeded())[2]

    assert float(terms(0.0)["style_cycle"][1]) == 0.0
    assert float(terms(0.5)["style_cycle"][1]) > 0.1


def test_style_distance_is_in_units_of_each_layers_root_mean_square() -> None:
    goal = torch.tensor([[3.0, 4.0, 10.0]])
    styles = goal + torch.tensor([[1.0, 0.0, 5.0]])
    root = (12.5) ** 0.5

    expected = (1 / root + 0 + 5 / 10) / 3
    assert float(style_distance(styles, goal, [2, 1])) == pytest.approx(expected)


def test_the_discriminator_learns_from_as_many_images_half_of_them_crossed(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(noise_path=False, weights={"crossed": 1.0, "style_cycle": 1.0})
    judged: list[Images] = []
    module.discriminator.register_forward_pre_hook(lambda _, given: judged.append(given[0]))

    terms = take_steps(module, batches[:1])[0]

    assert {"crossed", "style_cycle"} <= set(terms)
    fake, others, real, shown = judged[:4]
    assert torch.equal(real, batches[0][0])
    assert torch.equal(shown, torch.cat((fake[:2], others[2:])).detach())


def test_without_its_weights_a_step_is_what_it_was(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    found: list[dict[str, Any]] = take_steps(make_trainee(noise_path=False), batches[:2])

    assert not any({"crossed", "style_cycle"} & set(terms) for terms in found)
