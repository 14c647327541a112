"""Colours of maps, and objects cut out by them."""

from typing import Any

import pytest
import torch
from tiny import SIDE, linear, pictures
from torch import Tensor

from stylex.attribution.heat import coloured, grey, heat, map_scales
from stylex.attribution.segmentation import contours, grabcut, iou, segmentation
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError

SETTINGS: dict[str, Any] = {"foreground": 0.9, "background": 0.5, "iterations": 2, "seed": 0}


def test_a_brighter_colour_is_a_larger_value_and_the_ends_of_a_signed_scale_are_blue_and_red() -> (
    None
):
    colours = coloured(torch.linspace(0, 1, 9).view(1, 1, 9), signed=False)
    brightness = grey(colours)[0, 0, 0]
    assert (brightness.diff() > 0).all()
    signed = coloured(torch.tensor([[[-1.0, 0.0, 1.0]]]), signed=True)[0, :, 0]
    assert signed[2, 0] > signed[0, 0]
    assert signed[0, 2] > signed[2, 2]
    assert signed[:, 1].max() - signed[:, 1].min() < 0.05


def test_own_scales_show_a_weak_map_as_strong_and_a_shared_one_does_not() -> None:
    maps = torch.rand(1, SIDE, SIDE).repeat(2, 1, 1)
    maps[1] /= 100
    own = heat(pictures(2), maps, signed=False, shared=False, opacity=1.0, columns=2)
    torch.testing.assert_close(own.images[0], own.images[1])
    assert own.captions[0] != own.captions[1]
    assert own.captions[0].endswith("its own scale")
    shared = heat(pictures(2), maps, signed=False, shared=True, opacity=1.0, columns=2)
    assert shared.captions[0] == shared.captions[1]
    assert shared.captions[0].endswith("one scale for all")
    assert shared.images[1].mean() < shared.images[0].mean()


def test_maps_of_zeros_and_of_one_pixel_have_a_scale() -> None:
    maps = torch.zeros(2, 40, 40)
    maps[1, 3, 3] = -0.5
    assert map_scales(maps, shared=False).tolist() == [1.0, 0.5]
    shown = heat(torch.zeros(2, 1, 40, 40), maps, signed=True, shared=False, opacity=0.5, columns=1)
    assert shown.images.shape == (2, 3, 40, 40)
    assert shown.captions[1].startswith("blue −0.5 to red 0.5")
    assert shown.images.abs().max() <= 1


def test_opacity_goes_from_the_grey_image_to_the_map_alone() -> None:
    images, maps = pictures(1), torch.rand(1, SIDE, SIDE)
    clear = heat(images, maps, signed=False, shared=False, opacity=0.0, columns=1)
    torch.testing.assert_close(clear.images, grey(images))
    with pytest.raises(InputError, match=r"opacity must be in \[0, 1\], got 2"):
        heat(images, maps, signed=False, shared=False, opacity=2.0, columns=1)


def scene() -> tuple[Tensor, Tensor]:
    """A red disc on green with some noise, and its mask."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    disc = (y - 20).square() + (x - 26).square() < 150
    image = torch.where(disc, torch.tensor([0.8, -0.6, -0.6])[:, None, None], -0.7)
    image = image + 0.1 * torch.randn(3, 48, 48, generator=torch.Generator().manual_seed(0))
    return image.clamp(-1, 1)[None], disc[None]


def test_a_few_strong_pixels_are_enough_to_cut_out_an_object() -> None:
    image, disc = scene()
    maps = torch.zeros(1, 48, 48)
    maps[:, 16:25, 22:31] = 1.0  # a part of the disc
    maps += 0.5 * disc.float() + 0.01 * torch.rand(1, 48, 48)
    masks = grabcut(image, maps, **SETTINGS)
    found = iou(masks, disc)
    assert found.value is not None
    assert found.value > 0.95
    together = grabcut(image.repeat(2, 1, 1, 1), torch.cat((maps.flip(1), maps)), **SETTINGS)
    assert torch.equal(together[1], masks[0])


def test_a_flat_map_finds_nothing_and_says_so() -> None:
    def flat(_classifier: FrozenClassifier, images: Tensor, _targets: Tensor) -> Tensor:
        return torch.zeros(len(images), *images.shape[2:])

    masks, outlines = segmentation(
        linear(), pictures(1), torch.tensor([0]), map_method=flat, smoothing=0.1, **SETTINGS
    )
    assert masks.captions == ("nothing found",)
    assert (masks.images == -1).all()
    assert torch.equal(outlines.images, pictures(1))


def test_the_contour_lies_inside_the_mask_and_not_on_the_border_of_the_image() -> None:
    masks = torch.zeros(1, 9, 9, dtype=torch.bool)
    masks[0, :5, 2:7] = True
    expected = masks.clone()
    expected[0, :4, 3:6] = False
    assert torch.equal(contours(masks), expected)


def test_iou_by_hand_and_empty_pairs_do_not_count() -> None:
    masks, known = torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    masks[0, :2], known[0, 1:3], known[1] = True, True, True
    found = iou(masks, known)
    assert (found.value, found.num_images) == (pytest.approx((1 / 3 + 0) / 2), 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"foreground": 0.3}, "0 < background <= foreground < 1, got 0.5 and 0.3"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"smoothing": 0.5}, r"smoothing must be in \[0, 0.25\), got 0.5"),
    ],
)
def test_seeds_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    def brightness(_classifier: FrozenClassifier, images: Tensor, _targets: Tensor) -> Tensor:
        return images.mean(dim=1)

    chosen = {"smoothing": 0.0, **SETTINGS, **given}
    with pytest.raises(InputError, match=message):
        segmentation(linear(), pictures(1), torch.tensor([0]), map_method=brightness, **chosen)
