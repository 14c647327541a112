"""Drawn sets: factors, labels by the rule, and pictures that follow from the values alone."""

from typing import Any

import pytest
import torch

from stylex.data.drawing import Canvas
from stylex.data.drawn import DrawnSet
from stylex.data.faces import Faces
from stylex.data.leaves import Leaves
from stylex.errors import InputError

Family = type[DrawnSet]
DECIDING = {Faces: ("glasses", "hair_length"), Leaves: ("mildew", "spots")}  # binary, continuous


@pytest.fixture(params=DECIDING, ids=lambda family: family.__name__)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


def drawings(family: Family, split: str = "test", **changed: Any) -> DrawnSet:
    there, much = DECIDING[family]
    settings = {
        "resolution": 32,
        "channels": 3,
        "rule": {there: 1.0, much: -0.9},
        "noise": 0.0,
        "planted": None,
        "num_images": {"train": 400, "validation": 300, "test": 200},
        "seed": 0,
    }
    return family(split=split, **{**settings, **changed})


def test_without_noise_the_label_is_the_sign_of_the_stated_score(family: Family) -> None:
    drawn = drawings(family)
    names = [factor.name for factor in drawn.factors]
    there, much = (drawn.values[:, names.index(n)] for n in DECIDING[family])
    score = 1.0 * (there - 0.5) / 0.5 - 0.9 * (much - 0.5) / (1 / 12) ** 0.5
    assert torch.equal(drawn.labels, (score > 0).long())


def test_noise_changes_some_labels_and_no_picture(family: Family) -> None:
    clear, noisy = drawings(family), drawings(family, noise=1.0)
    assert torch.equal(clear.values, noisy.values)
    assert 0 < (clear.labels != noisy.labels).float().mean() < 0.5


def test_a_smaller_set_is_the_beginning_of_a_larger_one(family: Family) -> None:
    small, large = (
        drawings(family, num_images={"test": 5}),
        drawings(family, num_images={"test": 50}),
    )
    assert torch.equal(small.values, large.values[:5])
    assert torch.equal(small.labels, large.labels[:5])
    assert torch.equal(small.batch(range(5))[0], large.batch(range(5))[0])


def test_splits_and_seeds_share_no_drawing(family: Family) -> None:
    sets = [drawings(family, split) for split in ("train", "validation", "test")] + [
        drawings(family, seed=1)
    ]
    rows = torch.cat([drawn.values for drawn in sets])
    assert len(rows.unique(dim=0)) == len(rows)


def test_every_factor_changes_the_picture_where_it_can_be_seen(family: Family) -> None:
    drawn = drawings(family, planted=0.9)
    values = drawn.sample(20, seed=0)
    for i, factor in enumerate(drawn.factors):
        low, high = values.clone(), values.clone()
        low[:, i], high[:, i] = 0.0, 1.0
        seen = drawn.seen(low)[:, i] & drawn.seen(high)[:, i]
        change = (drawn.draw(high) - drawn.draw(low)).abs().amax(dim=(1, 2, 3))
        assert seen.any(), factor.name
        assert (change[seen] > 0.1).all(), factor.name


def test_a_planted_watermark_is_on_the_stated_share_of_each_class(family: Family) -> None:
    drawn = drawings(family, planted=0.9, num_images={"test": 4000})
    mark = drawn.values[:, -1]
    assert drawn.factors[-1].name == "watermark"
    assert abs(float(mark[drawn.labels == 1].mean()) - 0.9) < 0.02
    assert abs(float(mark[drawn.labels == 0].mean()) - 0.1) < 0.02


def test_samples_have_independent_factors_even_with_a_planted_watermark(family: Family) -> None:
    drawn = drawings(family, planted=1.0)
    correlations = torch.corrcoef(drawn.sample(4000, seed=0).T).fill_diagonal_(0)
    assert correlations.abs().max() < 0.08


def test_grey_drawings_have_one_channel(family: Family) -> None:
    images, _ = drawings(family, channels=1).batch([0, 1])
    assert images.shape == (2, 1, 32, 32)


def test_a_picture_follows_from_its_values_alone_whatever_else_is_drawn(family: Family) -> None:
    drawn = drawings(family)
    together = drawn.draw(drawn.values[:3])
    alone = torch.cat([drawn.draw(row[None]) for row in drawn.values[:3]])
    assert torch.equal(together, alone)


def test_a_watermark_changes_its_corner_and_nothing_else(family: Family) -> None:
    drawn = drawings(family, planted=0.9)
    without, carrying = drawn.values[:4].clone(), drawn.values[:4].clone()
    without[:, -1], carrying[:, -1] = 0.0, 1.0
    changed = (drawn.draw(carrying) != drawn.draw(without)).any(dim=1)
    corner = torch.zeros(32, 32, dtype=torch.bool)
    corner[25:, 25:] = True
    assert changed[:, corner].any(dim=1).all()
    assert not changed[:, ~corner].any()


def test_any_resolution_shows_the_same_drawing(family: Family) -> None:
    values = drawings(family).values[:4]
    small, large = drawings(family).draw(values), drawings(family, resolution=128).draw(values)
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert (small - shrunk).abs().mean() < 0.05


def test_the_fingerprint_changes_with_rule_noise_mark_and_seed(family: Family) -> None:
    rule = {DECIDING[family][0]: 1.0}
    changes: list[dict[str, Any]] = [
        {},
        {"noise": 0.1},
        {"planted": 0.9},
        {"seed": 1},
        {"rule": rule},
    ]
    kinds = [drawings(family, **changed) for changed in changes]
    assert len({drawn.fingerprint for drawn in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rule": {"ears": 1.0}}, "factors must be among .*, got 'ears'"),
        ({"rule": {}}, "a rule needs factors"),
        ({"noise": -1.0}, "noise of at least 0"),
        ({"planted": 0.3}, r"planted in \[0.5, 1\]"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    family: Family, changed: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        drawings(family, **changed)


def test_a_shape_on_a_plane_turned_a_quarter_has_its_axes_exchanged() -> None:
    canvas = Canvas(torch.zeros(1, 3), 32)
    turned = canvas.moved(0.1, 0.2).turned(torch.pi / 2)
    expected = canvas.ellipse(0.1, 0.2, 0.3, 0.6)
    assert torch.allclose(turned.ellipse(0.0, 0.0, 0.6, 0.3), expected, atol=1e-5)


def test_a_turn_is_clockwise() -> None:
    canvas = Canvas(torch.zeros(1, 3), 32)
    up = canvas.turned(0.5).ellipse(0.0, -0.8, 0.1, 0.1)  # turned to the right
    place = int(up.argmin())
    assert canvas.x.flatten()[place % 32] > 0.2
    assert canvas.y.flatten()[place // 32] < -0.5
