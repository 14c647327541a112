"""Embeddings measured on classes that were held out, and what the end of a training writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stylex.artifacts import write_json
from stylex.attribution.embeddings import nearest
from stylex.attribution.exhibits import Table
from stylex.attribution.retrieval import (
    Network,
    Retrieval,
    check_gallery,
    embed,
    measure_retrieval,
    pixel_embedding,
    retrieval_table,
    sample,
)
from stylex.classifier.embedding import RETRIEVAL_FILE, Embedding
from stylex.data.datasets import ImageSet
from stylex.imaging import enlarge, grid, write_png
from stylex.progress import quiet

COLUMNS = 9  # of the picture: an image and its eight nearest


class HeldOut:
    """Images of classes that training never sees, and how embeddings are measured on them."""

    def __init__(
        self, data: ImageSet, settings: Mapping[str, Any], seed: int, device: torch.device
    ) -> None:
        """Draws the images.

        Args:
            data: Of the held-out classes alone.
            settings: The configuration's `retrieval`.
            seed: Of the draws.
            device: Where embeddings compute.

        Raises:
            InputError: If there are too few images of a class.
        """
        self.data, self.settings, self.seed, self.device = data, settings, seed, device
        self.positions = sample(len(data), settings["num_images"], seed)
        check_gallery(data.labels[self.positions], settings["gallery_per_class"])

    def measure(self, network: Network) -> Retrieval:
        """Measures an embedding; a training one is in eval mode meanwhile."""
        training = isinstance(network, Embedding) and network.training
        if isinstance(network, Embedding):
            network.eval()
        try:
            found = embed(
                network, self.data, self.positions, self.settings["chunk_size"], self.device
            )
        finally:
            if isinstance(network, Embedding):
                network.train(training)
        return measure_retrieval(*found, self.settings["gallery_per_class"], self.seed)


def finish(
    folder: Path,
    trained: Embedding,
    untrained: Embedding,
    validation: HeldOut,
    test: HeldOut,
) -> None:
    """Writes how the trained embedding stands beside what it must beat, and a picture; prints it.

    Args:
        folder: Of the run; the figures go beside the embedding.
        trained: The embedding.
        untrained: As it was before the first step.
        validation: Held-out classes that give the threshold.
        test: Held-out classes of images that no figure was chosen by.
    """
    chosen = validation.measure(trained).verified.threshold
    found = {
        "pixels": test.measure(pixel_embedding),
        "untrained": test.measure(untrained),
        "trained": test.measure(trained),
    }
    table = retrieval_table(found)
    verified = found["trained"].verified
    facts = {
        "held_out_classes": list(test.data.class_names),
        "num_images": len(test.positions),
        "num_probes": found["trained"].identified.num_images,
        "num_pairs_of_one_class": verified.num_same,
        "num_pairs_of_two_classes": verified.num_different,
        "same_distance": chosen,
        "same_cosine": 1 - chosen**2 / 2,
        "reading": table.reading,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
        "intervals": {
            "identification": found["trained"].identified.interval,
            "map": found["trained"].precision.interval,
        },
        "roc": verified.curve(),
    }
    _write_neighbours(folder / "neighbours.png", trained, test)
    write_json(folder / "checkpoints" / RETRIEVAL_FILE, facts)  # the last: it says that all is done
    _print(table)
    print(f"wrote '{folder / 'checkpoints' / RETRIEVAL_FILE}' and '{folder / 'neighbours.png'}'")


@torch.no_grad()
def _write_neighbours(path: Path, network: Embedding, test: HeldOut) -> None:
    """Rows of an image and its nearest among the held-out classes' images."""
    order = torch.randperm(len(test.data), generator=torch.Generator().manual_seed(test.seed))
    network.eval()
    queries, labels = test.data.batch(order[: test.settings["num_shown"]].tolist())
    queries = queries[labels.argsort(stable=True)].to(test.device)
    count = min(COLUMNS, len(test.data)) - 1
    size = test.settings["chunk_size"]
    _, places = nearest(network, queries, network(queries), test.data, count, size, quiet)
    rows = [
        torch.cat((query[None].cpu(), test.data.batch(found.tolist())[0]))
        for query, found in zip(queries, places, strict=True)
    ]
    write_png(path, enlarge(grid(torch.cat(rows), count + 1), max(1, 64 // test.data.resolution)))


def _print(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as Printed

    printed = Printed(*table.columns, title="Retrieval on held-out classes, test split")
    for row in table.rows:
        printed.add_row(*(f"{c:.3f}" if isinstance(c, float) else str(c) for c in row))
    console = Console()
    console.print(printed)
    console.print(table.reading, highlight=False)
