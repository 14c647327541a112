"""Attribution maps on classifiers that look at one known square, and their scores by hand."""

import pytest
import torch
from patches import linear, patches
from torch import Tensor

from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.evaluation.maps import (
    Placement,
    grad_cam_map,
    gradient_map,
    maps_table,
    occlusion_map,
    place,
    relied_regions,
    smooth_map,
)
from stylex.evaluation.reliance import measure_reliance
from stylex.progress import quiet
from stylex.types import Images


def look_left(images: Images) -> Tensor:
    """Two logits from the mean of the upper left quarter."""
    score = images[:, :, :16, :16].mean(dim=(1, 2, 3)) * 4
    return torch.stack((-score, score), dim=1)


@pytest.fixture
def images() -> Images:
    return patches().draw(patches().sample(6, 0))


def quarter(count: int = 6) -> Tensor:
    regions = torch.zeros(count, 32, 32, dtype=torch.bool)
    regions[:, :16, :16] = True
    return regions


def test_the_gradient_of_a_mean_is_constant_where_it_looks_and_zero_elsewhere(
    images: Images,
) -> None:
    maps = gradient_map(look_left, images, 1)
    assert torch.allclose(maps, quarter() * 3 * 8 / (3 * 256))
    found = place(maps, quarter())
    assert (found.mass.value, found.pointing.value) == (pytest.approx(1), 1)
    assert found.uniform.value == 0.25


def test_a_smooth_map_of_a_linear_classifier_is_its_gradient(images: Images) -> None:
    smooth = smooth_map(look_left, images, 1, num_samples=3, noise=0.5, seed=0)
    assert torch.allclose(smooth, gradient_map(look_left, images, 1), atol=1e-6)


def test_occlusion_changes_the_score_only_where_the_classifier_looks(images: Images) -> None:
    maps = occlusion_map(look_left, images, 1, patch_px=8)
    assert place(maps, quarter()).mass.value == pytest.approx(1)
    grey = images.mean(dim=(2, 3), keepdim=True)
    hidden = images.clone()
    hidden[:, :, :8, :8] = grey
    change = 2 * (look_left(images) - look_left(hidden))[:, 1]
    assert torch.allclose(maps[:, 3, 3], change, atol=1e-5)


def test_grad_cam_is_the_weighted_sum_of_the_last_features(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    maps = grad_cam_map(tiny_classifier, tiny_images, 0)
    assert maps.shape == (12, 16, 16)
    assert (maps >= 0).all()
    assert float(maps.max()) > 0
    _, features = tiny_classifier.features(tiny_images)
    last = features[-1].detach().requires_grad_(True)
    logits = tiny_classifier.network.head(last.mean(dim=(2, 3)))
    odds = logits[:, 0] - logits[:, 1:].logsumexp(dim=1)
    slope = torch.autograd.grad(odds.sum(), last)[0].mean(dim=(2, 3), keepdim=True)
    expected = (slope * last).sum(dim=1, keepdim=True).relu().detach()
    grown = torch.nn.functional.interpolate(expected, (16, 16), mode="bilinear")[:, 0]
    assert torch.allclose(maps, grown, atol=1e-5)


def test_grad_cam_without_feature_layers_is_refused(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    plain = FrozenClassifier(
        tiny_classifier.network, tiny_classifier.adapter, tiny_classifier.class_names, ()
    )
    with pytest.raises(InputError, match="Grad-CAM needs a classifier with feature layers"):
        grad_cam_map(plain, tiny_images, 0)


def test_images_with_an_empty_region_are_left_out_and_counted() -> None:
    regions = quarter(3)
    regions[1] = False
    maps = torch.zeros(3, 32, 32)
    maps[0, 0, 0], maps[2, 31, 31] = -2.0, 1.0  # a hit by an absolute value, and a miss
    found = place(maps, regions)
    assert (found.mass.value, found.mass.num_images, found.left_out) == (0.5, 2, 1)
    assert found.pointing.value == 0.5


def test_a_map_of_zeros_hits_nothing() -> None:
    found = place(torch.zeros(2, 32, 32), quarter(2))
    assert (found.mass.value, found.pointing.value) == (0, 0)


def test_a_uniform_map_has_the_share_that_is_reported_for_one() -> None:
    found = place(torch.ones(2, 32, 32), quarter(2))
    assert found.mass.value == pytest.approx(found.uniform.value)


def test_no_image_with_a_region_leaves_no_score() -> None:
    found = place(torch.ones(2, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool))
    assert (found.mass.value, found.left_out) == (None, 2)


def test_the_region_of_the_reasons_is_that_of_the_factors_relied_upon() -> None:
    drawn = patches()
    reliance = measure_reliance(drawn, linear([4.0, 0.0, 2.0]), 1, 50, 0, quiet)
    found = relied_regions(drawn, drawn.sample(3, 0), reliance, 0.1)
    assert found[:, :16, :16].all()
    assert found[:, 16:, 16:].all()
    assert not found[:, :16, 16:].any()


def test_the_table_ends_with_a_uniform_map() -> None:
    placed: dict[str, Placement] = {"Gradient": place(torch.ones(2, 32, 32), quarter(2))}
    table = maps_table(placed)
    assert [row.title for row in table.rows] == ["Gradient", "A uniform map"]
    assert table.rows[1].cells[0].value == 0.25
    with pytest.raises(InputError, match="at least one kind of map"):
        maps_table({})
