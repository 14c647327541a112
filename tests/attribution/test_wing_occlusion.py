"""Occlusion against a slow re-implementation and a rule that is known."""

from typing import Any

import pytest
import torch
from tiny import SIDE, CornerRule, convolutional, frozen, pictures
from torch import Tensor

from stylex.attribution.occlusion import filled, occlusion
from stylex.errors import InputError


def test_occlusion_peaks_at_the_pixel_that_decides_and_is_zero_elsewhere() -> None:
    classifier = frozen(CornerRule(), classes=2)
    images = torch.full((2, 3, SIDE, SIDE), -0.5)
    images[:, :, 2, 5] = 1.0
    found = occlusion(
        classifier, images, torch.tensor([1, 0]), patch_px=1, stride_px=1, fill=-1.0, chunk_size=7
    )
    at_the_pixel = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    at_the_pixel[2, 5] = True
    fall = torch.tensor(8.0).sigmoid() - torch.tensor(-8.0).sigmoid()
    torch.testing.assert_close(found[0, 2, 5], fall)
    torch.testing.assert_close(found[1, 2, 5], -fall)
    assert not found[:, ~at_the_pixel].any()


@pytest.mark.parametrize(("patch", "stride"), [(3, 2), (3, 3), (5, 4), (8, 8), (2, 1)])
@pytest.mark.parametrize("fill", ["mean", "blur", 0.3, [0.1, -0.2, 0.3]])
def test_every_pixel_has_the_mean_fall_over_the_patches_that_cover_it(
    patch: int, stride: int, fill: Any
) -> None:
    classifier, images, targets = convolutional(), pictures(2), torch.tensor([0, 2])
    cover = filled(images, fill, patch / 2)
    before = classifier.probabilities(images)
    total, count = torch.zeros(2, SIDE, SIDE), torch.zeros(SIDE, SIDE)
    starts = [0]
    while starts[-1] + patch < SIDE:
        starts.append(starts[-1] + stride)
    for top in starts:
        for left in starts:
            covered = images.clone()
            here = (slice(top, top + patch), slice(left, left + patch))
            covered[:, :, *here] = cover[:, :, *here]
            fall = (before - classifier.probabilities(covered)).gather(1, targets[:, None])
            total[:, *here] += fall[:, :, None]
            count[*here] += 1
    given = {"patch_px": patch, "stride_px": stride, "fill": fill, "chunk_size": 4}
    found = occlusion(classifier, images, targets, **given)
    torch.testing.assert_close(found, total / count, atol=1e-6, rtol=1e-4)


def test_fills_are_what_they_are_called() -> None:
    images = pictures(2)
    means = images.mean(dim=(2, 3))
    assert torch.allclose(filled(images, "mean", 1.0)[:, :, 3, 4], means)
    assert torch.equal(
        filled(images, [0.1, 0.2, 0.3], 1.0)[1, :, 0, 7], torch.tensor([0.1, 0.2, 0.3])
    )
    blurred = filled(images, "blur", 2.0)
    assert blurred.std() < images.std() / 3
    assert blurred.mean(dim=(2, 3)).sub(means).abs().max() < 0.2
    flat = torch.full((1, 1, SIDE, SIDE), 0.4)
    torch.testing.assert_close(filled(flat, "blur", 4.0), flat)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"patch_px": 9}, "patch_px must be from 1 to the image's 8 px, got 9"),
        ({"patch_px": 0}, "patch_px must be from 1 to the image's 8 px, got 0"),
        ({"stride_px": 4}, r"stride_px must be from 1 to patch_px \(3\).*got 4"),
        ({"fill": "noise"}, "fill must be one of mean, blur, or a colour in .*, got 'noise'"),
        ({"fill": [0.0, 1.0]}, r"one per channel \(3\), got \[0.0, 1.0\]"),
        ({"fill": 2.0}, r"one value in \[-1, 1\]"),
        ({"chunk_size": 0}, "chunk_size must be at least 1"),
    ],
)
def test_a_patch_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    chosen = {"patch_px": 3, "stride_px": 2, "fill": "mean", "chunk_size": 1, **given}
    with pytest.raises(InputError, match=message):
        occlusion(convolutional(), pictures(1), torch.tensor([0]), **chosen)


def test_without_sizes_a_patch_is_a_fifth_and_the_step_half_of_it() -> None:
    images, targets = pictures(1).repeat(1, 1, 4, 4), torch.tensor([0])

    def found(patch: int | None, stride: int | None) -> Tensor:
        given = {"patch_px": patch, "stride_px": stride, "fill": "mean", "chunk_size": 9}
        return occlusion(frozen(CornerRule(), classes=2, side=32), images, targets, **given)

    assert torch.equal(found(None, None), found(6, 3))
