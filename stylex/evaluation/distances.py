"""Fréchet and kernel distances between sets of images, in features that name them.

Sources: Heusel et al. 2017 (arXiv:1706.08500), eq. 6; Bińkowski et al. 2018 (arXiv:1801.01401),
section 4, a cubic kernel, as torchmetrics computes it; both in float64.
"""

import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation.features import Features
from stylex.evaluation.tables import Column, Row, Table
from stylex.types import Pixels

FeatureRows = Float64[Tensor, "n d"]
FEWEST_IMAGES = 4  # two in each half
SUBSET_SIZE, NUM_SUBSETS = 1000, 100  # of the kernel distance, where one set is larger
COLUMNS = (
    Column(
        "same",
        "Same images",
        "Originals against their own copies: both show the same things, so even poor copies score "
        "well.",
    ),
    Column(
        "other",
        "Other images",
        "A random half of the originals against the copies of the other half, and the reverse; "
        "the mean.",
    ),
    Column("floor", "Originals alone", "One half of the originals against the other."),
)


class _AsGiven(nn.Module):
    """Stands where torchmetrics expects a network; it is given features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: FeatureRows) -> FeatureRows:
        """Returns what it is given."""
        return features


@torch.no_grad()
def extract(features: Features, pixels: Pixels, batch_size: int) -> FeatureRows:
    """Features of all images, on the CPU."""
    return torch.cat([features(part).double().cpu() for part in pixels.split(batch_size)])


def frechet(one: FeatureRows, other: Float64[Tensor, "m d"]) -> float:
    """Fréchet distance of the normal distributions with the sets' means and covariances.

    |m1 - m2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2)). The last trace is the sum of the singular values of
    the product of square roots of C1 and C2: unlike torchmetrics' eigenvalues of C1 C2 it stays
    exact, and fast, for fewer images than features. There the distance is biased upwards.

    Args:
        one: Features of at least two images.
        other: Features of at least two images.

    Returns:
        At least 0.
    """
    means = [features.mean(dim=0) for features in (one, other)]
    roots = [
        torch.linalg.qr((features - m) / (len(features) - 1) ** 0.5, mode="r").R
        for features, m in zip((one, other), means, strict=True)
    ]
    traces = sum(float(root.square().sum()) for root in roots)
    shared = float(torch.linalg.svdvals(roots[0] @ roots[1].T).sum())
    return max(0.0, float((means[0] - means[1]).square().sum()) + traces - 2 * shared)


def kernel(one: FeatureRows, other: Float64[Tensor, "m d"], seed: int) -> float:
    """Squared maximum mean discrepancy under the kernel (a · b / d + 1)³, without bias.

    Sets of one size, up to 1000, are taken whole; others by 100 random subsets, whose mean it is.

    Args:
        one: Features of at least two images, independent of the other set's.
        other: Features of at least two images.
        seed: Of the subsets.

    Returns:
        Around 0, on either side, for sets of one distribution.
    """
    size = min(len(one), len(other), SUBSET_SIZE)
    subsets = 1 if len(one) == len(other) == size else NUM_SUBSETS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save")
        metric = KernelInceptionDistance(
            feature=_AsGiven(one.shape[1]), subsets=subsets, subset_size=size
        )
    metric.update(one, real=True)
    metric.update(other, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return float(metric.compute()[0])


def distance_table(
    networks: Sequence[Features],
    originals: Pixels,
    reconstructions: Pixels,
    *,
    batch_size: int,
    seed: int,
) -> Table:
    """Distances between originals and reconstructions, in the features of every network.

    Args:
        networks: Each gives a Fréchet and a kernel row that carry its name.
        originals: At least four images.
        reconstructions: Their copies.
        batch_size: Images at once through a network.
        seed: Of the halves and subsets.

    Raises:
        InputError: If there are fewer than four images.
    """
    if len(originals) < FEWEST_IMAGES:
        raise InputError(
            f"distances between sets need at least {FEWEST_IMAGES} images, got {len(originals)}; "
            "give more images"
        )
    rows: list[Row] = []
    for network in networks:
        real, made = (extract(network, x, batch_size) for x in (originals, reconstructions))
        rows += _rows(network.name, real, made, seed)
    return Table(
        "distances",
        "Originals and reconstructions as sets",
        "Lower is better; figures compare only under one name. A copy as good as an original gives "
        "the last column's figure in the column before it. No interval: resampling images biases "
        "these distances.",
        COLUMNS,
        tuple(rows),
    )


def _rows(name: str, real: FeatureRows, made: FeatureRows, seed: int) -> list[Row]:
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    half = len(real) // 2
    first, second = (order[a:b] for a, b in pairwise((0, half, 2 * half)))
    crossed = ((real[first], made[second]), (real[second], made[first]))
    alone = (real[first], real[second])

    def figure(value: float, count: int) -> Estimate:
        return Estimate(value, count, None)

    def row(title: str, reading: str, cells: tuple[Estimate | None, ...]) -> Row:
        return Row(
            title.lower().replace("-", "_"),
            f"{title} between originals and reconstructions",
            f"{reading} in {real.shape[1]} features.",
            cells,
            base="original",
        )

    kernel_name = name.replace("F", "K", 1)
    return [
        row(
            name,
            "Distance of means and covariances",
            (
                figure(frechet(real, made), len(real)),
                figure(sum(frechet(*pair) for pair in crossed) / 2, half),
                figure(frechet(*alone), half),
            ),
        ),
        row(
            kernel_name,
            "Squared discrepancy under a cubic kernel, which needs independent sets,",
            (
                None,
                figure(sum(kernel(*pair, seed) for pair in crossed) / 2, half),
                figure(kernel(*alone, seed), half),
            ),
        ),
    ]
