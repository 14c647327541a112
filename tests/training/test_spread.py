"""What counts as samples that are all alike."""

import pytest
import torch

from stylex.model import StylEx
from stylex.training.spread import pairwise, spread
from stylex.types import Images


def test_the_mean_difference_of_two_images_is_that_over_all_pairs(tiny_images: Images) -> None:
    count = len(tiny_images)
    pairs = [(a, b) for a in range(count) for b in range(a)]
    apart = [(tiny_images[a] - tiny_images[b]).abs().mean() for a, b in pairs]
    torch.testing.assert_close(pairwise(tiny_images), torch.stack(apart).mean())
    assert pairwise(tiny_images[:1].expand(5, -1, -1, -1)) == 0


def test_a_generator_of_one_image_has_no_spread_and_a_varied_one_has(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    varied = spread(tiny_model, tiny_images)
    assert varied == spread(tiny_model, tiny_images)
    assert min(varied.values()) > 0.3
    with torch.no_grad():  # affine layers that ignore the latent
        for name, parameter in tiny_model.generator.named_parameters():
            if "affine" in name and name.endswith("weight"):
                parameter.zero_()
    assert spread(tiny_model, tiny_images)["sample_spread"] == pytest.approx(0, abs=1e-6)


def test_samples_of_collapsed_latents_have_little_spread(
    tiny_model: StylEx, tiny_images: Images
) -> None:
    before = spread(tiny_model, tiny_images)
    with torch.no_grad():
        for parameter in tiny_model.mapping.parameters():
            parameter.zero_()
    after = spread(tiny_model, tiny_images)
    assert after["sample_spread"] < before["sample_spread"]  # the probabilities still tell
    assert after["style_spread"] < before["style_spread"]
