"""Disturbances of saved images, and what survives them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import share
from stylex.evaluation.counterfactual.robustness import SurvivalRate, compressed, noised, shifted


def pictures(channels: int, num_images: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (num_images, channels, 8, 8), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_compression_is_what_a_jpeg_file_of_that_quality_holds(channels: int) -> None:
    pixels = pictures(channels)
    found = compressed(pixels, 90)
    for before, after in zip(pixels, found, strict=True):
        file = io.BytesIO()
        array = before.permute(1, 2, 0).numpy()
        Image.fromarray(array.squeeze() if channels == 1 else array).save(file, "JPEG", quality=90)
        expected = np.array(Image.open(file)).reshape(8, 8, channels)
        assert np.array_equal(after.permute(1, 2, 0).numpy(), expected)
    assert not torch.equal(found, pixels)
    worse = compressed(pixels, 10)
    assert (worse.float() - pixels).abs().mean() > (found.float() - pixels).abs().mean()


def test_only_grey_and_rgb_images_can_be_compressed() -> None:
    with pytest.raises(InputError, match="channels must be 1"):
        compressed(pictures(2), 90)


def test_shifts_move_by_one_pixel_and_repeat_the_border() -> None:
    pixels = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=torch.uint8)[None, None]
    left, right, up, down = (shift[0, 0].tolist() for shift in shifted(pixels))
    assert left == [[2, 3, 3], [5, 6, 6], [8, 9, 9]]
    assert right == [[1, 1, 2], [4, 4, 5], [7, 7, 8]]
    assert up == [[4, 5, 6], [7, 8, 9], [7, 8, 9]]
    assert down == [[1, 2, 3], [1, 2, 3], [4, 5, 6]]


def test_noise_has_the_standard_deviation_asked_for_and_its_seed_repeats_it() -> None:
    pixels = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    found = [noised(pixels, 4 / 255, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert (found[0].float() - 128).std() == pytest.approx(4, rel=0.05)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    black = noised(pixels * 0, 4 / 255, torch.Generator().manual_seed(0))
    assert (black == 0).float().mean() == pytest.approx(0.55, abs=0.03)  # clamped, not wrapped
    assert black.max() < 30


def test_a_flip_survives_if_every_form_of_the_disturbance_still_gives_the_target() -> None:
    said = [[1, 1, 0, 1], [1, 0, 0, 1]]  # two forms, four images
    logits = [torch.eye(2)[torch.tensor(row)] for row in said]
    metric = SurvivalRate()
    metric.update(logits, torch.ones(4, dtype=torch.int64), torch.tensor([True, True, True, False]))
    found = metric.scores()
    assert found.over_valid == share(torch.tensor([True, False, False]))  # of the flips
    assert found.over_all == share(torch.tensor([True, False, False, False]))  # of all images
