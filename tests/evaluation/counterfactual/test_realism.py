"""Split Fréchet distances against a loop, and against doing nothing and noise."""

import pytest
import torch
from torch import Tensor

from stylex.evaluation.counterfactual.realism import FidSplit
from stylex.evaluation.distances import frechet
from stylex.types import Images


def flat(images: Images) -> Tensor:
    return images.flatten(1)


def images(num_images: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(100, 150, (num_images, 1, 1, 2), generator=generator, dtype=torch.uint8)


def test_fid_split_compares_a_half_with_the_changed_images_of_the_other_half() -> None:
    before, after = images(11, 0), images(11, 1)
    metric = FidSplit(flat, num_splits=4, seed=7)
    metric.update(before, after, torch.ones(11, dtype=torch.bool))
    generator = torch.Generator().manual_seed(7)
    x, y = (p.double().flatten(1) / 127.5 - 1 for p in (before, after))
    found = []
    for _ in range(4):
        order = torch.randperm(11, generator=generator)
        a, b = order[:5], order[5:]
        found += [frechet(x[a], y[b]), frechet(x[b], y[a])]
    score = metric.scores().over_all
    assert score.value == pytest.approx(sum(found) / 8, rel=1e-4)
    assert (score.num_images, score.interval) == (11, None)


def test_doing_nothing_is_not_free_unlike_in_a_distance_of_all_from_all() -> None:
    before = images(12, 0)
    metric = FidSplit(flat, num_splits=10, seed=0)
    metric.update(before, before, torch.ones(12, dtype=torch.bool))
    assert frechet(flat(before.double()), flat(before.double())) == pytest.approx(0)
    found = metric.scores().over_all.value
    assert found is not None
    assert found > 1e-4


def test_noise_is_further_from_images_than_doing_nothing() -> None:
    before = images(60, 0)
    noise = torch.randint(256, before.shape, generator=torch.Generator().manual_seed(2)).byte()
    found = []
    for after in (before, noise):
        metric = FidSplit(flat, num_splits=3, seed=0)
        metric.update(before, after, torch.ones(60, dtype=torch.bool))
        found.append(metric.scores().over_all.value or 0)
    assert found[1] > 10 * found[0]


@pytest.mark.parametrize(("num_valid", "has_value"), [(0, False), (3, False), (4, True)])
def test_fewer_than_4_images_have_a_count_but_no_distance(num_valid: int, has_value: bool) -> None:
    metric = FidSplit(flat, num_splits=2, seed=0)
    metric.update(images(8, 0), images(8, 1), torch.arange(8) < num_valid)
    found = metric.scores().over_valid
    assert (found.value is not None, found.num_images) == (has_value, num_valid)
