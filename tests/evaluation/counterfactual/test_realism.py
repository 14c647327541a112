"""Split Fréchet distances against Gaussians whose distance is known."""

import pytest
import torch
from torch import Tensor

from stylex.evaluation.counterfactual.realism import FidSplit, frechet_distance
from stylex.types import Images


def flat(images: Images) -> Tensor:
    return images.flatten(1)


def whitened(num_images: int) -> Tensor:
    """Rows with mean 0 and covariance 1, up to rounding."""
    values = torch.randn(num_images, 3, generator=torch.Generator().manual_seed(0)).double()
    values = values - values.mean(dim=0)
    return torch.linalg.qr(values).Q * (num_images - 1) ** 0.5


def test_the_distance_of_scaled_and_moved_gaussians_is_that_of_means_and_deviations() -> None:
    # Commuting covariances: |m1 - m2|^2 + sum of (s1 - s2)^2.
    first, second = whitened(50), whitened(80).flip(0)
    scales, move = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 0.0, -1.0])
    found = frechet_distance(first, second * scales + move)
    assert found == pytest.approx(0.5**2 + 1 + (0 + 1 + 4))


def test_the_distance_equals_the_formula_with_a_matrix_root() -> None:
    generator = torch.Generator().manual_seed(2)
    first = torch.randn(40, 4, generator=generator).double()
    second = (
        torch.randn(30, 4, generator=generator).double()
        @ torch.randn(4, 4, generator=generator).double()
    )
    product = first.T.cov() @ second.T.cov()
    root = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    expected = (
        (first.mean(0) - second.mean(0)).square().sum()
        + first.T.cov().trace()
        + second.T.cov().trace()
        - 2 * root
    )
    assert frechet_distance(first, second) == pytest.approx(float(expected))


def test_features_are_at_no_distance_from_themselves_even_if_they_outnumber_the_images() -> None:
    features = torch.randn(5, 30, generator=torch.Generator().manual_seed(3))
    assert frechet_distance(features, features.flip(0)) == pytest.approx(0, abs=1e-9)


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
        found += [frechet_distance(x[a], y[b]), frechet_distance(x[b], y[a])]
    score = metric.scores().over_all
    assert score.value == pytest.approx(sum(found) / 8, rel=1e-4)
    assert (score.num_images, score.interval) == (11, None)


def test_doing_nothing_is_not_free_unlike_in_a_distance_of_all_from_all() -> None:
    before = images(12, 0)
    metric = FidSplit(flat, num_splits=10, seed=0)
    metric.update(before, before, torch.ones(12, dtype=torch.bool))
    assert frechet_distance(flat(before.double()), flat(before.double())) == pytest.approx(0)
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
