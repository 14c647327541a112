"""How well distances between embeddings tell classes apart that were not trained on.

Four questions: whose image is it (identification), are two images of one class (verification),
which images are of this one's class (re-identification, mAP and CMC), which are most like it
(recommendation). Equal distances never help: an image of another class at the same distance counts
as nearer, except in the average precision, where equal distances are ranked together.
Sources: Grother & Phillips 2004 (closed-set identification, CMC), Zheng et al. 2015 (mAP).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.attribution.exhibits import Cell, Table
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.types import Images, Labels

RANKS = (1, 5, 10)  # of the CMC
CURVE_POINTS = 200  # of a written ROC
Network = Callable[[Images], Float[Tensor, "b e"]]
Distances = Float[Tensor, "q g"]  # of queries from the images of a gallery
Matches = Bool[Tensor, "q g"]  # whether they are of one class


@dataclass(frozen=True)
class Verification:
    """Accepting pairs as of one class when their distance is at most a threshold.

    Attributes:
        auc: Area under the ROC: probability that a pair of one class is nearer than one of two,
            equal distances counting half.
        equal_error: Share of pairs of two classes that are accepted, where it equals that of pairs
            of one class that are refused; interpolated.
        threshold: Distance at which that is so.
        thresholds: All distances, ascending; the ROC's points.
        false_accepts: Share of pairs of two classes accepted at each.
        true_accepts: Share of pairs of one class accepted at each.
        num_same: Pairs of one class.
        num_different: Pairs of two classes.
    """

    auc: float
    equal_error: float
    threshold: float
    thresholds: Float[Tensor, " t"]
    false_accepts: Float[Tensor, " t"]
    true_accepts: Float[Tensor, " t"]
    num_same: int
    num_different: int

    def curve(self) -> list[list[float]]:
        """Some of the ROC's points: threshold, false accepts, true accepts."""
        count = len(self.thresholds)
        chosen = torch.linspace(0, count - 1, min(count, CURVE_POINTS)).round().long()
        parts = (self.thresholds, self.false_accepts, self.true_accepts)
        return torch.stack([part[chosen] for part in parts], dim=1).tolist()


def distances_between(
    queries: Float[Tensor, "q e"], gallery: Float[Tensor, "g e"]
) -> Float[Tensor, "q g"]:
    """Euclidean distances in float64; equal vectors have distance 0 exactly."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(queries.double(), gallery.double(), compute_mode=exact)


def first_ranks(distances: Distances, matches: Matches) -> Int64[Tensor, " q"]:
    """Rank of each query's nearest image of its class, from 1; 0 if the gallery has none."""
    nearest = distances.masked_fill(~matches, torch.inf).amin(dim=1, keepdim=True)
    ranks = 1 + ((distances <= nearest) & ~matches).sum(dim=1)
    return torch.where(matches.any(dim=1), ranks, 0)


def average_precisions(distances: Distances, matches: Matches) -> Float[Tensor, " q"]:
    """Mean over a query's matches of the precision down to each; NaN if it has no match."""
    order, positions = distances.sort(dim=1, stable=True)
    found = matches.gather(1, positions).double()
    accepted = torch.searchsorted(order, order, right=True)  # down to the last equal distance
    precision = found.cumsum(dim=1).gather(1, accepted - 1) / accepted
    return (precision * found).sum(dim=1) / found.sum(dim=1)


def verify(distances: Float[Tensor, " p"], same: Bool[Tensor, " p"]) -> Verification:
    """Verification by the distances of pairs.

    Args:
        distances: Of every pair.
        same: Whether it is of one class.

    Raises:
        InputError: If there is no pair of one class, or none of two.
    """
    num_same = int(same.sum())
    num_different = len(same) - num_same
    if not num_same or not num_different:
        raise InputError(
            "verification needs pairs of one class and pairs of two, got "
            f"{num_same} and {num_different}; give more images of more classes"
        )
    order, positions = distances.double().sort()
    last = torch.cat((order[1:] != order[:-1], torch.ones(1, dtype=torch.bool)))  # of equal ones
    true = same[positions].double().cumsum(dim=0)[last] / num_same
    false = (~same[positions]).double().cumsum(dim=0)[last] / num_different
    thresholds = order[last]
    rate, threshold = _equal_error(false, true, thresholds)
    start = torch.zeros(1, dtype=torch.float64)
    auc = torch.trapezoid(torch.cat((start, true)), torch.cat((start, false)))
    return Verification(
        float(auc), rate, threshold, thresholds, false, true, num_same, num_different
    )


def _equal_error(
    false: Float[Tensor, " t"], true: Float[Tensor, " t"], thresholds: Float[Tensor, " t"]
) -> tuple[float, float]:
    """Where false accepts rise above false refusals, on the line between the two points there."""
    accepted, refused = false.tolist(), (1 - true).tolist()
    after = next(i for i, (a, r) in enumerate(zip(accepted, refused, strict=True)) if a >= r)
    if after:
        a, r, t = accepted[after - 1], refused[after - 1], float(thresholds[after - 1])
    else:
        a, r, t = 0.0, 1.0, float(thresholds[0])  # below the least distance none is accepted
    part = (r - a) / ((accepted[after] - a) + (r - refused[after]))
    return (
        a + part * (accepted[after] - a),
        t + part * (float(thresholds[after]) - t),
    )


def verification(vectors: Float[Tensor, "n e"], labels: Labels) -> Verification:
    """Verification over all pairs of different images."""
    one, other = torch.triu_indices(len(labels), len(labels), offset=1)
    return verify(distances_between(vectors, vectors)[one, other], labels[one] == labels[other])


def identification(
    vectors: Float[Tensor, "n e"], labels: Labels, gallery_per_class: int, seed: int
) -> Estimate:
    """Share of probes whose nearest image in the gallery is of their class (rank 1, closed set).

    Args:
        vectors: Embeddings of all images.
        labels: Their classes.
        gallery_per_class: Images of every class that are enrolled, drawn at random; all others
            are probes.
        seed: Of the draw.

    Raises:
        InputError: If a class has no image left as a probe.
    """
    check_gallery(labels, gallery_per_class)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    enrolled = torch.zeros(len(labels), dtype=torch.bool)
    for k in labels.unique().tolist():
        enrolled[order[labels[order] == k][:gallery_per_class]] = True
    matches = labels[~enrolled][:, None] == labels[enrolled]
    distances = distances_between(vectors[~enrolled], vectors[enrolled])
    return share(first_ranks(distances, matches) == 1)


def check_gallery(labels: Labels, gallery_per_class: int) -> None:
    """Refuses a gallery that is empty or leaves no probe of a class.

    Raises:
        InputError: If so.
    """
    fewest = int(labels.bincount()[labels].min()) if len(labels) else 0
    if not 1 <= gallery_per_class < fewest:
        raise InputError(
            "gallery_per_class must be at least 1 and leave a probe of every class, got "
            f"{gallery_per_class} where a class has {fewest} images; lower it or measure on more "
            "images"
        )


def reidentification(
    vectors: Float[Tensor, "n e"], labels: Labels
) -> tuple[Estimate, dict[int, Estimate]]:
    """Every image asks for the others of its class; itself is not among those asked.

    Returns:
        mAP, and CMC at `RANKS`: the share of images with one of their class among the nearest.
        Images that are alone in their class do not count.
    """
    matches = labels[:, None] == labels
    matches.fill_diagonal_(False)
    distances = distances_between(vectors, vectors).fill_diagonal_(torch.inf)
    asks = matches.any(dim=1)
    precisions = average_precisions(distances[asks], matches[asks])
    ranks = first_ranks(distances[asks], matches[asks])
    return mean(precisions), {rank: share(ranks <= rank) for rank in RANKS}


@dataclass(frozen=True)
class Retrieval:
    """All figures of one embedding.

    Attributes:
        identified: Closed-set identification at rank 1.
        verified: Verification.
        precision: mAP of re-identification.
        among: CMC, by rank.
    """

    identified: Estimate
    verified: Verification
    precision: Estimate
    among: Mapping[int, Estimate]

    def figures(self) -> dict[str, float]:
        """Plain numbers, as loggers want them."""
        found = {
            "identification": self.identified.value,
            "auc": self.verified.auc,
            "equal_error": self.verified.equal_error,
            "map": self.precision.value,
            **{f"cmc_{rank}": estimate.value for rank, estimate in self.among.items()},
        }
        return {name: float(value or 0.0) for name, value in found.items()}


def measure_retrieval(
    vectors: Float[Tensor, "n e"], labels: Labels, gallery_per_class: int, seed: int
) -> Retrieval:
    """Measures an embedding on images of classes that it was not trained on.

    Raises:
        InputError: If there are too few images.
    """
    identified = identification(vectors, labels, gallery_per_class, seed)
    precision, among = reidentification(vectors, labels)
    return Retrieval(identified, verification(vectors, labels), precision, among)


@torch.no_grad()
def embed(
    network: Network,
    data: ImageSet,
    positions: Sequence[int],
    chunk_size: int,
    device: torch.device,
) -> tuple[Float[Tensor, "n e"], Labels]:
    """Embeds images of a set, some at a time.

    Args:
        network: In eval mode, on `device`.
        data: Where the images are.
        positions: Which of them.
        chunk_size: Images at once.
        device: Where the network computes.

    Returns:
        Vectors and labels, on the CPU.
    """
    parts = [
        network(data.batch(positions[i : i + chunk_size])[0].to(device)).cpu()
        for i in range(0, len(positions), chunk_size)
    ]
    return torch.cat(parts), data.labels[torch.tensor(list(positions))]


def pixel_embedding(images: Images) -> Float[Tensor, "b e"]:
    """The pixels themselves at length 1: what an embedding must beat."""
    return F.normalize(images.flatten(1), dim=1)


def sample(count: int, most: int, seed: int) -> list[int]:
    """Positions of at most so many images, drawn without replacement, ascending."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:most].sort().values.tolist()


def retrieval_table(found: Mapping[str, Retrieval]) -> Table:
    """Embeddings side by side, by name."""
    ranks = tuple(f"CMC@{rank}" for rank in RANKS)
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            each.identified.value,
            each.verified.auc,
            each.verified.equal_error,
            each.precision.value,
            *(each.among[rank].value for rank in RANKS),
        )
        for name, each in found.items()
    ]
    return Table(
        ("embedding", "identification", "AUC", "equal error", "mAP", *ranks),
        tuple(rows),
        "On classes that no embedding here was trained on. High is good, but for the equal error "
        "rate of verification, where low is.",
    )
