"""Drawn sets: factors, labels by the rule, and pictures that follow from the values alone."""

from typing import Any

import pytest
import torch

from stylex.data.faces import Faces
from stylex.errors import InputError

RULE = {"glasses": 1.0, "hair_length": -0.9}


def faces(split: str = "test", **changed: Any) -> Faces:
    settings = {
        "resolution": 32,
        "channels": 3,
        "rule": RULE,
        "noise": 0.0,
        "planted": None,
        "num_images": {"train": 400, "validation": 300, "test": 200},
        "seed": 0,
    }
    return Faces(split=split, **{**settings, **changed})


def test_without_noise_the_label_is_the_sign_of_the_stated_score() -> None:
    drawn = faces()
    names = [factor.name for factor in drawn.factors]
    glasses, length = (drawn.values[:, names.index(n)] for n in ("glasses", "hair_length"))
    score = 1.0 * (glasses - 0.5) / 0.5 - 0.9 * (length - 0.5) / (1 / 12) ** 0.5
    assert torch.equal(drawn.labels, (score > 0).long())


def test_noise_changes_some_labels_and_no_picture() -> None:
    clear, noisy = faces(), faces(noise=1.0)
    assert torch.equal(clear.values, noisy.values)
    assert 0 < (clear.labels != noisy.labels).float().mean() < 0.5


def test_a_smaller_set_is_the_beginning_of_a_larger_one() -> None:
    small, large = faces(num_images={"test": 5}), faces(num_images={"test": 50})
    assert torch.equal(small.values, large.values[:5])
    assert torch.equal(small.labels, large.labels[:5])
    assert torch.equal(small.batch(range(5))[0], large.batch(range(5))[0])


def test_splits_and_seeds_share_no_drawing() -> None:
    sets = [faces(split) for split in ("train", "validation", "test")] + [faces(seed=1)]
    rows = torch.cat([drawn.values for drawn in sets])
    assert len(rows.unique(dim=0)) == len(rows)


def test_every_factor_changes_the_picture_where_it_can_be_seen() -> None:
    drawn = faces(planted=0.9)
    values = drawn.sample(20, seed=0)
    for i, factor in enumerate(drawn.factors):
        low, high = values.clone(), values.clone()
        low[:, i], high[:, i] = 0.0, 1.0
        seen = drawn.seen(low)[:, i] & drawn.seen(high)[:, i]
        change = (drawn.draw(high) - drawn.draw(low)).abs().amax(dim=(1, 2, 3))
        assert seen.any(), factor.name
        assert (change[seen] > 0.1).all(), factor.name


def test_a_planted_watermark_is_on_the_stated_share_of_each_class() -> None:
    drawn = faces(planted=0.9, num_images={"test": 4000})
    mark = drawn.values[:, -1]
    assert drawn.factors[-1].name == "watermark"
    assert abs(float(mark[drawn.labels == 1].mean()) - 0.9) < 0.02
    assert abs(float(mark[drawn.labels == 0].mean()) - 0.1) < 0.02


def test_samples_have_independent_factors_even_with_a_planted_watermark() -> None:
    drawn = faces(planted=1.0)
    correlations = torch.corrcoef(drawn.sample(4000, seed=0).T).fill_diagonal_(0)
    assert correlations.abs().max() < 0.08


def test_grey_drawings_have_one_channel() -> None:
    images, _ = faces(channels=1).batch([0, 1])
    assert images.shape == (2, 1, 32, 32)


def test_any_resolution_shows_the_same_drawing() -> None:
    values = faces().values[:4]
    small, large = faces().draw(values), faces(resolution=128).draw(values)
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert (small - shrunk).abs().mean() < 0.05


def test_the_fingerprint_changes_with_rule_noise_mark_and_seed() -> None:
    kinds = [faces(), faces(noise=0.1), faces(planted=0.9), faces(seed=1), faces(rule={"hat": 1.0})]
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
def test_what_cannot_be_drawn_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        faces(**changed)
