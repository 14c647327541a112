"""Distances of sets against closed forms."""

import pytest
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance

from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation.distances import _AsGiven, distance_table, extract, frechet, kernel
from stylex.types import Pixels


class Means:
    """Mean of the upper and of the lower half of an image, in units of 255."""

    name = "FD-C"

    def __call__(self, pixels: Pixels) -> Tensor:
        return pixels.float().unflatten(2, (2, -1)).mean(dim=(1, 3, 4)) / 255


def whitened(num: int, dims: int, seed: int) -> Tensor:
    """Points of mean 0 and sample covariance 1, exactly."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(num, dims, generator=generator, dtype=torch.float64)
    points -= points.mean(dim=0)
    root = torch.linalg.cholesky(points.T @ points / (num - 1))
    return torch.linalg.solve_triangular(root, points.T, upper=False).T


def random_pixels(num: int, seed: int) -> Pixels:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num, 1, 4, 4), generator=generator, dtype=torch.uint8)


def test_the_distance_of_two_normal_distributions_is_that_of_the_closed_form() -> None:
    # Diagonal covariances: |m|² + Σ (σ − τ)².
    sigma = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    tau = torch.tensor([3.0, 2.0, 1.5], dtype=torch.float64)
    shift = torch.tensor([1.0, -2.0, 0.0], dtype=torch.float64)
    one, other = whitened(40, 3, 1) * sigma, whitened(60, 3, 2) * tau + shift
    assert frechet(one, other) == pytest.approx(5.0 + 4.0 + 0.0 + 1.0, rel=1e-9)
    assert frechet(other, one) == pytest.approx(10.0, rel=1e-9)


@pytest.mark.parametrize("num", [40, 5], ids=["more images", "more features"])
def test_a_set_is_at_no_frechet_distance_from_itself(num: int) -> None:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(num, 20, generator=generator, dtype=torch.float64)
    assert frechet(points, points.flip(0)) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_of_any_covariances_equals_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(2)
    one = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    other = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    other = other @ torch.randn(4, 4, generator=generator, dtype=torch.float64)
    metric = FrechetInceptionDistance(feature=_AsGiven(4))
    metric.update(one, real=True)
    metric.update(other, real=False)
    assert frechet(one, other) == pytest.approx(float(metric.compute()), rel=1e-9)


def test_the_kernel_distance_equals_a_loop() -> None:
    one, other = whitened(6, 2, 1), whitened(6, 2, 2) + 1

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 2 + 1) ** 3

    pairs = [(i, j) for i in range(6) for j in range(6)]
    within = [k(x[i], x[j]) for x in (one, other) for i, j in pairs if i != j]
    across = [k(one[i], other[j]) for i, j in pairs]
    expected = sum(within) / 30 - 2 * sum(across) / 36
    assert abs(expected) > 0.5
    assert kernel(one, other, seed=0) == pytest.approx(expected, rel=1e-9)


def test_the_kernel_distance_has_no_bias_between_draws_of_one_distribution() -> None:
    generator = torch.Generator().manual_seed(3)
    draws = torch.randn(100, 2, 20, 3, generator=generator, dtype=torch.float64)
    found = torch.tensor([kernel(a, b, seed=0) for a, b in draws], dtype=torch.float64)
    assert (found < 0).any()
    assert abs(float(found.mean())) < 3 * float(found.std()) / 100**0.5
    moved = torch.tensor([kernel(a, b + 2, seed=0) for a, b in draws[:20]])
    assert float(moved.min()) > float(found.max())


def test_subsets_of_unequal_sets_depend_on_the_seed_alone() -> None:
    one, other = whitened(9, 2, 1), whitened(6, 2, 2)
    torch.manual_seed(1)
    first = kernel(one, other, seed=0)
    left = torch.rand(3)
    assert kernel(one, other, seed=0) == first
    assert kernel(one, other, seed=1) != first
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), left)  # the caller's random numbers stay


def test_features_do_not_depend_on_the_batch() -> None:
    pixels = random_pixels(7, seed=4)
    found = extract(Means(), pixels, batch_size=3)
    assert found.dtype == torch.float64
    assert torch.equal(found, extract(Means(), pixels, batch_size=7))


def test_a_table_names_its_distances_and_judges_perfect_copies_like_originals() -> None:
    pixels = random_pixels(40, seed=5)
    table = distance_table([Means()], pixels, pixels, batch_size=8, seed=0)
    frechet_row, kernel_row = table.rows
    assert frechet_row.title == "FD-C between originals and reconstructions"
    assert kernel_row.title == "KD-C between originals and reconstructions"
    same, other, floor = (cell.value for cell in frechet_row.cells if isinstance(cell, Estimate))
    assert same == pytest.approx(0, abs=1e-9)
    assert other == pytest.approx(floor)
    assert kernel_row.cells[0] is None
    counts = [cell.num_images for cell in frechet_row.cells if isinstance(cell, Estimate)]
    assert counts == [40, 20, 20]


def test_worse_copies_are_further_away_in_every_column_but_the_last() -> None:
    pixels = random_pixels(40, seed=5)
    rows = [
        distance_table([Means()], pixels, made, batch_size=8, seed=0).rows
        for made in (pixels, pixels // 2, pixels // 4)
    ]
    for name, columns in ((0, (0, 1)), (1, (1,))):
        for column in columns:
            figures = [r[name].cells[column] for r in rows]
            values = [f.value for f in figures if isinstance(f, Estimate)]
            assert values == sorted(values)
            assert len(set(values)) == 3
        assert len({r[name].cells[2] for r in rows}) == 1


def test_too_few_images_are_refused() -> None:
    pixels = random_pixels(3, seed=6)
    with pytest.raises(InputError, match="at least 4 images, got 3"):
        distance_table([Means()], pixels, pixels, batch_size=8, seed=0)
