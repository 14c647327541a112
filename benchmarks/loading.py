"""Images per second that the training loader gives at 256 px, against what a training step needs.

    python -m benchmarks.loading [--json PATH] [--quick] [--images N]

Synthetic JPEGs of 300 px are loaded as training does, in batches of 32, once from files that are
decoded each time and once from the cache of images resized once, with several numbers of worker
processes. They come as bytes, for training makes floats of them on its device. All are timed in
turn, round by round; of each the median counts. The files are read from memory (the operating
system keeps them), so that a slow disk would make files worse still.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.measurement import Row, device, facts, table, write
from stylex.data.datasets import ImageFolder, ImageSet
from stylex.data.steps import StepBatches, step_loader
from stylex.imaging import from_uint8, read_image
from stylex.types import Images, Labels, Pixels

RESULTS = Path(__file__).parent / "results"
RESOLUTION_PX, FILE_PX, BATCH = 256, 300, 32
SHARES: dict[str, Any] = {"validation_share": 0.1, "test_share": 0.1, "seed": 0}
# StyleGAN2 at 256 px, batch 16 a device: StyleGAN3's docs/configs.md, 12.53 s per 1000 images.
PUBLISHED_A100 = 1000 / 12.53
# No H100 is published. Were it used as well as that A100, 10 % of its dense bfloat16 peak: 4 s.
EXPECTED_H100 = 1000 / 4.0
COLUMNS = {
    **{"form": "images from", "num_workers": "workers", "images_per_s": "images/s"},
    **{"batch_ms": "ms per batch of 32", "times_files": "times files", "times_need": "times need"},
}


class Files(ImageSet):
    """The images of a folder, each decoded whenever it is asked for: what the cache replaces."""

    def __init__(self, images: ImageFolder) -> None:
        self._files = [images.root / path for path in images.paths]
        super().__init__(
            class_names=images.class_names,
            labels=images.labels,
            split=images.split,
            resolution=images.resolution,
            channels=images.channels,
        )

    def packed(self, indices: Sequence[int]) -> tuple[Pixels, Labels]:
        """Decodes the files."""
        form = self.resolution, self.channels
        pixels = torch.stack([read_image(self._files[i], *form) for i in indices])
        return pixels, self.labels[list(indices)]

    def _images(self, positions: Labels) -> Images:
        return from_uint8(self.packed(positions.tolist())[0])

    def _content(self) -> bytes:
        return b"files"


def draw(root: Path, count: int, size_px: int) -> None:
    """Writes smooth coloured JPEGs with grain, in two class folders."""
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((size_px, size_px), Image.Resampling.BICUBIC)
        grain = random.integers(-12, 13, (size_px, size_px, 3))
        pixels = (np.asarray(smooth).astype(np.int64) + grain).clip(0, 255).astype(np.uint8)
        path = root / ("cat", "dog")[number % 2] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


class Lane:
    """One way of loading, whose workers stay between the rounds."""

    def __init__(self, images: ImageSet, form: str, num_workers: int) -> None:
        self.form, self.num_workers = form, num_workers
        batch = min(BATCH, len(images))
        steps = StepBatches(
            num_images=len(images), batch_size=batch, seed=0, start_step=0, stop_step=10**9
        )
        loader = step_loader(images, steps, num_workers)
        self._batch, self._batches = batch, iter(loader)
        self._ahead = max(2 * num_workers, 1)  # batches that workers hold ready
        self.rates: list[float] = []

    def time(self, num_batches: int) -> None:
        """Adds the images per second of some batches, after those that were ready are taken."""
        for _ in range(self._ahead):
            next(self._batches)
        started = time.perf_counter()
        for _ in range(num_batches):
            next(self._batches)
        self.rates.append(num_batches * self._batch / (time.perf_counter() - started))

    def row(self) -> Row:
        """The figures of this way."""
        rate = statistics.median(self.rates)
        return {
            **{"form": self.form, "num_workers": self.num_workers, "images_per_s": rate},
            "batch_ms": 1000 * BATCH / rate,
        }


def need(name: str) -> tuple[float, str]:
    """Images per second that training takes at 256 px, and where that is from.

    Args:
        name: Of the device that trains.
    """
    for path in sorted(RESULTS.glob("training-*.json"), reverse=True):
        found = json.loads(path.read_text())
        for row in found["rows"] if found["device"] == name else []:
            if row["resolution_px"] == RESOLUTION_PX and row.get("seconds_per_kimg"):
                return 1000 / row["seconds_per_kimg"], f"{path.name}, {row['recipe']}"
    return EXPECTED_H100, (
        f"no training at 256 px was measured on {name}; an H100 used as well as the best published "
        f"A100 ({PUBLISHED_A100:.1f} images/s, StyleGAN2, StyleGAN3's docs/configs.md) would take "
        "250 images/s: an estimate from its peak"
    )


def worker_counts(quick: bool) -> list[int]:
    """0, and powers of two up to the processors there are."""
    most = 1 if quick else len(os.sched_getaffinity(0))
    return [0, *(2**k for k in range(most.bit_length()) if 2**k <= most)]


@contextlib.contextmanager
def prepared(count: int) -> Iterator[tuple[dict[str, ImageSet], Row]]:
    """Sets of both forms on a folder that goes when the block ends, and what the cache took."""
    with tempfile.TemporaryDirectory(prefix="stylex-loading-") as name:
        root = Path(name)
        draw(root / "images", count, FILE_PX)
        form: dict[str, Any] = {"split": "train", "resolution": RESOLUTION_PX, "channels": 3}
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            cached = ImageFolder(root=root / "images", cache=root / "c", **form, **SHARES)
            seconds.append(time.perf_counter() - started)
        built = {
            **{"num_images": count, "build_s": seconds[0], "open_s": seconds[1]},
            **{"build_images_per_s": count / seconds[0]},
            "bytes": sum(path.stat().st_size for path in (root / "c").rglob("*.bin")),
        }
        yield {"files": Files(cached), "cache": cached}, built


def measure(
    sets: dict[str, Any], counts: Sequence[int], rounds: int, num_batches: int
) -> list[Row]:
    """Rows of both forms with each number of workers, timed in turn."""
    rows = []
    for num_workers in counts:
        lanes = [Lane(images, form, num_workers) for form, images in sets.items()]
        for _ in range(rounds):
            for lane in lanes:
                # Workers of the other form fill their queues and then rest.
                lane.time(num_batches if lane.form == "files" else 4 * num_batches)
        files, cache = (lane.row() for lane in lanes)
        for row in (files, cache):
            row["times_files"] = row["images_per_s"] / files["images_per_s"]
        rows += [files, cache]
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table and writes the file; 1 if no number of workers is enough."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--quick", action="store_true", help="few images: only proves that it runs")
    parser.add_argument("--images", type=int, default=2000, help="how many are drawn")
    given = parser.parse_args(arguments)

    started = time.monotonic()
    about = facts(device())
    needed, source = need(about["device"])
    notes = [f"need: {needed:.0f} images/s ({source})", "files are in the system's memory"]
    with prepared(40 if given.quick else given.images) as (sets, built):
        rounds, num_batches = (1, 1) if given.quick else (5, 8)
        rows = measure(sets, worker_counts(given.quick), rounds, num_batches)
    for row in rows:
        row["times_need"] = row["images_per_s"] / needed
    processors = len(os.sched_getaffinity(0))
    result: Row = {
        **{"benchmark": "loading", **about, "processors": processors, "notes": notes},
        **{"resolution_px": RESOLUTION_PX, "file_px": FILE_PX, "batch_size": BATCH},
        **{"need_images_per_s": needed, "cache": built, "rows": rows},
        "seconds": time.monotonic() - started,
    }
    write(given.json, result)
    print(f"{about['device']}, {processors} processors, torch {about['torch']}")
    print(table(rows, COLUMNS))
    print(
        f"cache of {built['num_images']} images: {built['build_s']:.1f} s "
        f"({built['build_images_per_s']:.0f} images/s), opened again in {built['open_s']:.2f} s, "
        f"{built['bytes'] / 2**20:.0f} MiB"
    )
    print(*notes, sep="\n")
    best = max(row["times_need"] for row in rows if row["form"] == "cache")
    return 0 if best >= 1 or given.quick else 1


if __name__ == "__main__":
    raise SystemExit(main())
