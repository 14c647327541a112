"""The checks of maps, on classifiers whose answers are known."""

from typing import Any

import pytest
import torch
from tiny import SIDE, CornerRule, convolutional, frozen, linear, pictures
from torch import Tensor

from stylex.attribution.faithfulness import (
    area,
    curves,
    faithfulness,
    pointing_game,
    sensitivity_max,
)
from stylex.attribution.gradients import saliency
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError

SETTINGS: dict[str, Any] = {
    "num_images": 4,
    "num_steps": 8,
    "deleted": "mean",
    "uninserted": "blur",
    "radius": 0.02,
    "num_moved": 2,
    "randomised": [0.5, 1.0],
    "seed": 0,
    "chunk_size": 3,
}


def gradient(classifier: FrozenClassifier, images: Tensor, targets: Tensor) -> Tensor:
    return saliency(classifier, images, targets, signed=False, chunk_size=4)


def constant(_classifier: FrozenClassifier, images: Tensor, _targets: Tensor) -> Tensor:
    return torch.linspace(0, 1, SIDE * SIDE).view(1, SIDE, SIDE).repeat(len(images), 1, 1)


def test_the_curve_falls_at_the_step_that_takes_the_pixel_that_decides() -> None:
    classifier = frozen(CornerRule(), classes=2)
    images, covered = torch.ones(1, 3, SIDE, SIDE), -torch.ones(1, 3, SIDE, SIDE)
    targets = torch.tensor([1])
    for rank in (0, 20, 63):
        maps = -torch.arange(64.0).view(1, SIDE, SIDE)  # the place's own rank is 21
        maps[0, 2, 5] = 0.5 - rank - (rank > 21)
        curve = curves(classifier, images, covered, targets, maps, 64, 1, 0)[0]
        high, low = torch.tensor(8.0).sigmoid(), torch.tensor(-8.0).sigmoid()
        expected = torch.where(torch.arange(65) <= rank, high, low)
        torch.testing.assert_close(curve, expected)


def test_curves_start_and_end_with_the_whole_images_and_do_not_hang_on_chunks() -> None:
    classifier, images, after = convolutional(), pictures(3), pictures(3, seed=1)
    targets = torch.tensor([0, 1, 2])
    maps = gradient(classifier, images, targets)
    found = curves(classifier, images, after, targets, maps, 7, 2, 0)
    assert found.shape == (3, 8)
    for column, shown in ((0, images), (-1, after)):
        expected = classifier.probabilities(shown).gather(1, targets[:, None])[:, 0]
        torch.testing.assert_close(found[:, column], expected)
    alone = curves(classifier, images[1:2], after[1:2], targets[1:2], maps[1:2], 7, 1, 0)
    torch.testing.assert_close(alone, found[1:2])


def test_a_map_of_equal_values_gives_a_random_order() -> None:
    classifier = frozen(CornerRule(), classes=2)
    images, covered = torch.ones(1, 3, SIDE, SIDE), -torch.ones(1, 3, SIDE, SIDE)
    flat = torch.zeros(1, SIDE, SIDE)
    places = {
        int((curves(classifier, images, covered, torch.tensor([1]), flat, 64, 1, s) > 0.5).sum())
        for s in range(8)
    }
    assert len(places) > 4


def test_the_area_under_a_line_is_its_mean_height() -> None:
    line = torch.linspace(0, 1, 11)[None]
    torch.testing.assert_close(area(line), torch.tensor([0.5]))
    torch.testing.assert_close(area(torch.full((2, 4), 0.3)), torch.full((2,), 0.3))


def test_sensitivity_is_captums_where_the_map_is_the_image() -> None:
    # Φ(x) = x, so the change is the noise itself: its largest norm over the image's.
    def image_itself(_c: FrozenClassifier, images: Tensor, _t: Tensor) -> Tensor:
        return images.mean(dim=1)

    images, targets = pictures(3), torch.tensor([0, 1, 2])
    maps = images.mean(dim=1)
    found = sensitivity_max(image_itself, linear(), images, targets, maps, 0.1, 5, 0)
    random = torch.Generator().manual_seed(0)
    noises = [(torch.rand(3, SIDE, SIDE, generator=random) * 2 - 1) * 0.1 for _ in range(5)]
    worst = max(float(noise.mean(dim=0).norm()) for noise in noises)
    torch.testing.assert_close(found, worst / maps.flatten(1).norm(dim=1))
    flat = sensitivity_max(
        constant, linear(), images, targets, constant(None, images, None), 0.1, 5, 0
    )  # type: ignore[arg-type]
    assert not flat.any()
    nothing = torch.zeros(3, SIDE, SIDE)
    assert (
        sensitivity_max(image_itself, linear(), images, targets, nothing, 0.1, 1, 0).isnan().all()
    )


def test_the_pointing_game_leaves_empty_regions_out_and_flat_maps_point_nowhere() -> None:
    maps, regions = torch.zeros(4, SIDE, SIDE), torch.zeros(4, SIDE, SIDE, dtype=torch.bool)
    regions[:3, :2, :2] = True
    maps[0, 1, 1], maps[1, 5, 5], maps[3, 0, 0] = 1.0, 1.0, 1.0
    found = pointing_game(maps, regions)  # a hit, a miss, a flat map, an empty region
    assert (found.value, found.num_images) == (pytest.approx(1 / 3), 3)
    assert pointing_game(maps, torch.zeros_like(regions)).value is None


def test_a_map_that_ignores_the_classifier_is_found_out_and_one_that_does_not_is_not() -> None:
    images, targets = pictures(6), torch.tensor([0, 1, 2, 0, 1, 2])
    regions = torch.ones(6, SIDE, SIDE, dtype=torch.bool)
    methods = {"gradient": gradient, "constant": constant}
    table = faithfulness(
        convolutional(), images, targets, methods=methods, regions=regions, **SETTINGS
    )
    rows = {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == ["gradient", "constant", "random order"]
    assert rows["constant"]["100% of layers random"] == pytest.approx(1)
    assert rows["constant"]["sensitivity"] == 0
    assert abs(float(rows["gradient"]["100% of layers random"])) < 0.8
    assert rows["gradient"]["pointing game"] == 1
    assert rows["random order"]["sensitivity"] is None
    assert "(n = 4)" in str(rows["gradient"]["95 % of deletion"])
    assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"methods": {}}, "at least one method of maps, got none"),
        ({"num_steps": 0}, "of at least 1, got 4, 0 and 2"),
        ({"randomised": [0.0]}, r"shares of layers in \(0, 1\], got \[0.0\]"),
    ],
)
def test_checks_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    chosen = {"methods": {"gradient": gradient}, **SETTINGS, **given}
    with pytest.raises(InputError, match=message):
        faithfulness(convolutional(), pictures(1), torch.tensor([0]), **chosen)
