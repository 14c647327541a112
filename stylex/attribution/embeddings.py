"""The images of a data set that lie nearest to an image, in an embedding of images.

With the classifier's own features it shows what the classifier takes for alike; with a trained
embedding, what is alike. Local, post-hoc, white-box (the embedding's network is looked into).
"""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.attribution.exhibits import Cell, Pictures, Table
from stylex.attribution.retrieval import distances_between
from stylex.classifier.embedding import load_embedding, own_embedding
from stylex.classifier.frozen import FrozenClassifier
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.imaging import resize
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels

NEAR = 1e-3  # distance below which the pixels are compared


@torch.no_grad()
def neighbours(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    data: ImageSet,
    embedding: str | None,
    num_neighbours: int,
    chunk_size: int,
    progress: Progress = quiet,
    trust: bool = False,
) -> tuple[Pictures, Table]:
    """Finds each image's nearest neighbours in a data set; an image is no neighbour of its own.

    Args:
        classifier: Names the classes; its features are the embedding if none is given.
        images: The queries.
        targets: Class that each query is asked about.
        data: Where neighbours are looked for, of the queries' channels.
        embedding: A run's folder of `train.py task=embedding`; none takes the classifier's own
            pooled features, the input of its last linear layer.
        num_neighbours: How many of each; images with exactly the query's pixels do not count.
        chunk_size: Images of the data set at once.
        progress: Shows how far it is.
        trust: Whether the embedding's folder may name code to run.

    Returns:
        A row of each query and its neighbours with their distances, from 0 (the same direction) to
        2 (the opposite one); and how many of them are of the class asked about.

    Raises:
        InputError: If the embedding cannot be read, or the data set is too small or of another
            form.
    """
    for name, value in (("num_neighbours", num_neighbours), ("chunk_size", chunk_size)):
        if value < 1:
            raise InputError(f"neighbours' {name} must be at least 1, got {value}")
    if data.channels != images.shape[1]:
        raise InputError(
            f"neighbours must have the images' channels ({images.shape[1]}), got data of "
            f"{data.channels}; give data.channels={images.shape[1]}"
        )
    network = (
        own_embedding(classifier)
        if embedding is None
        else load_embedding(Path(embedding), trust=trust)
    )
    network = network.to(images.device)
    queries = torch.cat([network(part) for part in images.split(chunk_size)])
    distances, positions = nearest(
        network, images, queries, data, num_neighbours, chunk_size, progress
    )
    if not distances.isfinite().all():
        raise InputError(
            f"neighbours need {num_neighbours} other images in the data, got {len(data)} in all; "
            "lower num_neighbours or give more"
        )
    rows = zip(images, distances, positions, targets.tolist(), strict=True)
    shown, captions, lines = [], [], []
    for i, (query, apart, found, target) in enumerate(rows):
        others, labels = data.batch(found.tolist())
        shown += [query[None], resize(others, query.shape[1]).to(query)]
        names = [data.class_names[k] for k in labels.tolist()]
        captions += [f"query: {classifier.class_names[target]}"]
        captions += [f"{name}\n{d:.3f}" for name, d in zip(names, apart.tolist(), strict=True)]
        lines.append(_line(i, classifier.class_names[target], names, apart))
    source = "the classifier's own features" if embedding is None else f"'{embedding}'"
    return Pictures(torch.cat(shown), tuple(captions), num_neighbours + 1), Table(
        ("image", "class asked about", "nearest", "of that class", "nearest at", "farthest at"),
        tuple(lines),
        f"The {num_neighbours} nearest of {len(data)} images in {source}: the share of them that "
        "is labelled with the class asked about, and their distances, from 0 to 2.",
    )


def _line(
    index: int, asked: str, names: list[str], distances: Float[Tensor, " k"]
) -> tuple[Cell, ...]:
    near, far = float(distances[0]), float(distances[-1])
    return (index + 1, asked, names[0], names.count(asked) / len(names), near, far)


def nearest(
    network: Callable[[Images], Tensor],
    images: Float[Tensor, "q c h w"],
    queries: Float[Tensor, "q e"],
    data: ImageSet,
    count: int,
    chunk_size: int,
    progress: Progress,
) -> tuple[Float[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """Reads a data set once and keeps the nearest of what it has read.

    Args:
        network: In eval mode, on the queries' device.
        images: The queries' images.
        queries: Their embeddings.
        data: Where neighbours are looked for.
        count: How many; of equally near ones the earlier in the data.
        chunk_size: Images at once.
        progress: Shows how far it is.

    Returns:
        Distances, ascending, and positions in the data; infinite distances stand for images that
        the data set does not have.
    """
    best = torch.full((len(queries), count), torch.inf, dtype=torch.float64, device=queries.device)
    places = torch.full((len(queries), count), -1, device=queries.device)
    starts = range(0, len(data), chunk_size)
    for start in progress(starts, "neighbours"):
        here = torch.arange(start, min(start + chunk_size, len(data)))
        others = data.batch(here.tolist())[0].to(images.device)
        apart = distances_between(queries, network(others))
        apart[_same_pixels(images, others, apart)] = torch.inf
        joined = torch.cat((best, apart), dim=1)
        order = joined.sort(dim=1, stable=True).indices[:, :count]
        best = joined.gather(1, order)
        known = torch.cat((places, here.to(places).expand(len(queries), -1)), dim=1)
        places = known.gather(1, order)
    return best, places


def _same_pixels(
    images: Float[Tensor, "q c h w"],
    others: Float[Tensor, "g c2 h2 w2"],
    distances: Float[Tensor, "q g"],
) -> Bool[Tensor, "q g"]:
    same = torch.zeros_like(distances, dtype=torch.bool)
    if images.shape[1:] == others.shape[1:]:
        for i, j in (distances < NEAR).nonzero().tolist():
            same[i, j] = torch.equal(images[i], others[j])
    return same
