"""The attack that every table stands beside."""

import pytest
import torch
from torch import Tensor

from stylex.classifier.frozen import FrozenClassifier
from stylex.evaluation.counterfactual.baselines import attacked
from stylex.imaging import from_uint8, to_uint8
from stylex.types import Images


def checkerboard(images: Images) -> Tensor:
    """Linear in a pattern of single pixels that nobody sees."""
    side = images.shape[3]
    pattern = (torch.arange(side)[:, None] + torch.arange(side)) % 2 * 2 - 1
    score = (images * pattern).sum(dim=(1, 2, 3))
    return torch.stack([0.5 - score, score - 0.5], dim=1)


def brightness(images: Images) -> Tensor:
    mean = images.mean(dim=(1, 2, 3))
    return torch.stack([-mean, mean], dim=1)


def dark(num_images: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(40, 80, (num_images, 1, 8, 8), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("num_steps", [1, 20])
def test_against_a_linear_classifier_the_attack_is_the_sign_of_its_weights(num_steps: int) -> None:
    pixels = dark()
    found = attacked(checkerboard, pixels, 1, epsilon=8 / 255, num_steps=num_steps, batch_size=2)
    pattern = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2 - 1
    assert torch.equal(found.int() - pixels.int(), (8 * pattern).expand(3, 1, 8, 8))


def test_an_attack_flips_with_a_tiny_change_that_an_independent_classifier_does_not_follow() -> (
    None
):
    pixels = torch.full_like(dark(), 60)
    found = attacked(checkerboard, pixels, 1, epsilon=8 / 255, num_steps=20, batch_size=8)
    assert checkerboard(from_uint8(pixels)).argmax(dim=1).tolist() == [0, 0, 0]
    assert checkerboard(from_uint8(found)).argmax(dim=1).tolist() == [1, 1, 1]
    assert brightness(from_uint8(found)).argmax(dim=1).tolist() == [0, 0, 0]


def test_the_attack_stays_within_epsilon_and_within_the_range_of_pixels() -> None:
    pixels = torch.randint(256, (4, 3, 6, 6), generator=torch.Generator().manual_seed(1)).byte()

    def curved(images: Images) -> Tensor:
        score = (images**3).sum(dim=(1, 2, 3)).sin()
        return torch.stack([-score, score], dim=1)

    found = attacked(curved, pixels, 0, epsilon=3 / 255, num_steps=7, batch_size=3)
    assert (found.int() - pixels.int()).abs().max() == 3


def test_the_attack_goes_through_a_frozen_classifier(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    pixels = to_uint8(tiny_images)
    found = attacked(tiny_classifier, pixels, 2, epsilon=8 / 255, num_steps=5, batch_size=8)
    before, after = (
        tiny_classifier(from_uint8(p)).log_softmax(dim=1)[:, 2] for p in (pixels, found)
    )
    assert (after > before).all()


def test_the_attack_works_where_gradients_are_off_and_leaves_no_trace() -> None:
    weight = torch.ones(1, requires_grad=True)
    pixels = dark()
    before = pixels.clone()
    with torch.no_grad():
        found = attacked(
            lambda images: brightness(images) * weight,
            pixels,
            1,
            epsilon=4 / 255,
            num_steps=3,
            batch_size=8,
        )
    assert torch.equal(found, pixels + 4)
    assert torch.equal(pixels, before)
    assert weight.grad is None
    assert not found.requires_grad
