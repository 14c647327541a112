"""What the search saves, and whether it still finds the same.

    python -m benchmarks.search [--images N] [--checkpoint PATH] [--json PATH] [--quick]

Four ways to the same answer, in one run: the official notebook's loop (one image a pass; a sample,
extrapolated), all edits in batches, the same resumed from stored activations, and screened. The
exhaustive table is measured in full once, for all classes; every class's and pair's selection with
screening is then answered from that table, which counts its passes without making them, and
compared with the selection on the whole table. One class is screened for real, to time it. What no
shipped model has, 5,760 coordinates, is a function whose effects are known.
"""

import argparse
import itertools
import statistics as median_of
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measurement import Row, device, facts, table, write
from stylex.data.datasets import FashionMNIST
from stylex.model import StylEx, load
from stylex.search.crew import Crew, Member, Place
from stylex.search.edits import Edits
from stylex.search.engine import Engine
from stylex.search.results import Settings
from stylex.search.scores import Logit, LogProbability, Rise, Score
from stylex.search.screening import ScreenedTable, Screening, covariates
from stylex.search.selection import (
    Gain,
    Pick,
    Table,
    select_joint,
    select_notebook,
    select_paper,
)
from stylex.search.statistics import Statistics, collect
from stylex.search.table import EffectTable
from stylex.search.tabulation import Tabulation

SETTINGS = Settings()
PICKS = SETTINGS.num_attributes
SCORES: dict[str, Callable[[int], Score]] = {
    "paper": Logit,
    "joint": LogProbability,
    "notebook": Rise,
}
BATCHES = (16, 32, 64, 128)
SAMPLE_S = 30.0  # of all rates
ANALYTIC = 5760  # coordinates, as StyleGAN2 has at 256 px
COLUMNS = {
    **{"question": "question", "searches": "searches", "images": "images", "edits": "edits"},
    **{"passes_ratio": "times fewer passes", "found": "of the top 10", "identical": "identical"},
    **{"effect_lost": "effect lost"},
}


@dataclass(frozen=True)
class Study:
    """A model, its images, the exhaustive table of them, and gradients of every class's scores."""

    model: StylEx
    statistics: Statistics
    effects: Tensor  # [n 2 m k]
    slopes: dict[str, Tensor]  # by score: [n s k]

    def screened(self, rows: Tensor, target: int, selector: str, seed: int) -> "Replay":
        """A screened table of some images, answered from the exhaustive one."""
        found, score = self.statistics, SCORES[selector](target)
        m = self.effects.shape[2]
        kind = "LogProbability" if selector == "joint" else "Logit"
        step = found.extremes[:, None, :m] - found.styles[rows, :m]
        change = (self.slopes[kind][rows, :m, target] * step).transpose(0, 1)
        base = found.base_logits[rows]
        predicted = score.possible(base[:, None, None], change)
        return Replay(self.effects[rows], predicted, torch.cat((base, found.styles[rows]), 1), seed)


class Replay:
    """A screened table that counts what it asks for.

    Attributes:
        passes: Edits asked for, and three passes an image for its gradient.
    """

    def __init__(self, effects: Tensor, predicted: Tensor, known: Tensor, seed: int) -> None:
        self.effects, self.passes = effects, 3 * len(effects)
        screening = Screening(SETTINGS.audit_images, SETTINGS.confidence, SETTINGS.tolerance, seed)
        self.table = ScreenedTable(self.answer, predicted, covariates(known), 1.0, screening)

    def answer(self, edits: Edits) -> Tensor:
        """Looks up what an engine would measure."""
        self.passes += len(edits)
        return self.effects[edits.images, edits.directions, edits.coordinates]


def select(table: Table, selector: str, target: int, base: Tensor) -> list[Pick]:
    """A selection as shipped, from a table of unedited images."""
    gain = Gain(SCORES[selector](target), base)
    if selector == "paper":
        return select_paper(table, gain, PICKS, SETTINGS.threshold, SETTINGS.drop_inconsistent)
    if selector == "notebook":
        return select_notebook(table, gain, PICKS, SETTINGS.max_image_effect)
    free = torch.ones(2, table.num_coordinates, dtype=torch.bool)
    return select_joint(table, base, target, PICKS, free)


def compare(study: Study, rows: Tensor, target: int, selector: str) -> Row:
    """One question, screened against exhaustive."""
    base = study.statistics.base_logits[rows]
    classes = range(base.shape[1])
    dense = EffectTable(study.effects[rows], range(study.effects.shape[2]), classes)
    replay = study.screened(rows, target, selector, seed=0)
    found = select(replay.table, selector, target, base)
    expected = select(dense, selector, target, base)
    means = dense.means(Gain(Logit(target), base), torch.ones(len(rows), dtype=torch.bool))

    def effect(picks: Sequence[Pick]) -> float:
        return sum(float(means[p.direction, p.coordinate]) for p in picks) / max(len(picks), 1)

    return {
        "images": len(rows),
        "edits": dense.num_coordinates * 2,
        "passes_ratio": len(rows) * 2 * dense.num_coordinates / replay.passes,
        "found": len(set(found) & set(expected)) / max(len(expected), 1),
        "identical": float(found == expected),
        "effect_lost": effect(expected) - effect(found),
    }


def summary(question: str, rows: Sequence[Row]) -> Row:
    """Means over questions of one kind."""
    keys = ("images", "edits", "passes_ratio", "found", "identical", "effect_lost")
    means = {key: sum(row[key] for row in rows) / len(rows) for key in keys}
    return {"question": question, "searches": len(rows), **means}


@torch.no_grad()
def rates(model: StylEx, found: Statistics, seconds: float) -> dict[str, float]:
    """Passes per second of the ways to measure everything, taken in turn; medians of rounds."""
    on, m = model.generator.const.device, len(model.generator.layout.searched())
    styles = found.styles.to(on)

    def plain(size: int, times: int) -> Callable[[], int]:
        def run() -> int:
            for _ in range(times):
                model.classifier(model.render(styles[:size])).cpu()
            return size * times

        return run

    engine = Engine(model, found.styles, found.base_logits, found.extremes, batch_size=None)
    images = itertools.cycle(torch.arange(len(found.styles)).split(4))

    def resumed() -> int:
        edits = Edits.grid(next(images), torch.arange(m), 1.0)
        engine.measure(edits)
        engine.forget()
        return len(edits)

    runs = {f"batched {size}": plain(size, 512 // size) for size in BATCHES}
    runs |= {"official": plain(1, 64), "resumed": resumed}
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(speeds["resumed"]) < 3:
        for name, run in runs.items():
            start = time.perf_counter()
            speeds[name].append(run() / (time.perf_counter() - start))
    found_speeds = {name: median_of.median(values[1:]) for name, values in speeds.items()}
    return {**found_speeds, "batched": max(found_speeds[f"batched {size}"] for size in BATCHES)}


def measured(model: StylEx, found: Statistics, count: int) -> Tensor:
    """The whole table of the first images."""
    engine = Engine(model, found.styles, found.base_logits, found.extremes, batch_size=None)
    m = len(model.generator.layout.searched())
    effects = torch.empty(count, 2, m, found.base_logits.shape[1])
    for rows in bar(torch.arange(count).split(4), "exhaustive"):
        effects[rows] = engine.measure(Edits.grid(rows, torch.arange(m), 1.0)).reshape(
            len(rows), 2, m, -1
        )
        engine.forget()
    return effects


def gradients(model: StylEx, found: Statistics, count: int) -> dict[str, Tensor]:
    """Of every class's logit and log-probability."""
    engine = Engine(model, found.styles, found.base_logits, found.extremes, batch_size=None)
    rows, classes = torch.arange(count), range(found.base_logits.shape[1])
    return {
        kind.__name__: engine.slopes(rows, [kind(k) for k in classes])
        for kind in (Logit, LogProbability)
    }


def timed(model: StylEx, found: Statistics, images: Tensor, rows: Tensor, target: int) -> Row:
    """One class screened for real, with its measurements kept on disk: seconds and passes."""
    crew = Crew(Place())
    crew.member = Member(model, images, {"batch_size": None})
    coordinates = model.generator.layout.searched()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        tables = Tabulation(
            crew, found, coordinates, [target], SETTINGS.screening(), 1.0, Path(folder), {}
        )
        table = tables.table(rows, Logit(target), "effects.zarr")
        select(table, "paper", target, found.base_logits[rows])
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "passes": tables.passes, "images": len(rows)}


def analytic(count: int, seed: int) -> Row:
    """A search over 5,760 coordinates whose effects are odd, even or saturating."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    styles, m = normal(count, ANALYTIC), ANALYTIC
    size = 0.03 * normal(m)
    size[torch.randperm(m, generator=random)[:24]] = torch.tensor([1.0, -1.0] * 12) * 0.9 ** (
        torch.arange(24)
    )
    kind = torch.randint(3, (m,), generator=random)
    share = size * torch.exp(0.5 * normal(count, m))  # of each image
    step = torch.stack((styles.amin(0), styles.amax(0)))[:, None] - styles  # [2 n m]
    response = torch.where(kind == 0, step / 3, torch.where(kind == 1, (step / 3) ** 2, 0.0))
    response = torch.where(kind == 2, torch.tanh(2 * step), response)
    effects = (share * response).transpose(0, 1) + 0.2 * normal(count, 2, m)
    slope = share * torch.where(kind == 0, 1 / 3, torch.where(kind == 1, 0.0, 2.0))
    predicted = (slope * step).transpose(0, 1).contiguous()
    base = torch.zeros(count, 1)
    start = time.perf_counter()
    replay = Replay(effects[..., None], predicted, styles[:, :32], seed)
    found = select(replay.table, "paper", 0, base)
    seconds = time.perf_counter() - start
    dense = EffectTable(effects[..., None], range(m), [0])
    expected = select(dense, "paper", 0, base)
    return {
        "images": count,
        "edits": 2 * m,
        "passes_ratio": count * 2 * m / replay.passes,
        "found": len(set(found) & set(expected)) / len(expected),
        "identical": float(found == expected),
        "effect_lost": 0.0,
        "seconds": seconds,
    }


def questions(said: Tensor, num_classes: int, num_pairs: int) -> Iterator[tuple[int | None, int]]:
    """Every class against all others, then pairs spread over all of them."""
    yield from ((None, target) for target in range(num_classes))
    pairs = [p for p in itertools.permutations(range(num_classes), 2) if (said == p[0]).sum() >= 8]
    yield from pairs[:: max(1, len(pairs) // num_pairs)][:num_pairs]


def bar(items: Any, what: str) -> Any:  # noqa: ANN401  any iterable
    """A progress bar with the time left."""
    from rich.progress import track

    return track(list(items), what.ljust(12))


def run(arguments: argparse.Namespace) -> Row:
    """All rows."""
    on = device()
    model = load(arguments.checkpoint).to(on)
    data = FashionMNIST(split="test", resolution=model.resolution_px, channels=model.channels)
    positions = list(range(100 if arguments.quick else len(data)))
    images, _ = data.batch(positions)
    found = collect(model, [x.to(on) for x in images.split(256)], positions, 0.0)
    count = min(arguments.images, len(positions))
    study = Study(model, found, measured(model, found, count), gradients(model, found, count))
    said = found.base_logits[:count].argmax(dim=1)
    num_classes = found.base_logits.shape[1]
    results: dict[str, list[Row]] = {}
    selectors = ("paper",) if arguments.quick else tuple(SCORES)
    asked = list(questions(said, num_classes, 2 if arguments.quick else 20))
    for selector, (source, target) in bar(itertools.product(selectors, asked), "questions"):
        rows = (said != target if source is None else said == source).nonzero()[:, 0]
        kind = "one class against all" if source is None else "one class against one"
        row = compare(study, rows, target, selector)
        results.setdefault(f"{selector}, {kind}", []).append(row)
    summaries = [summary(name, rows) for name, rows in results.items()]
    for n in () if arguments.quick else (250, 1000):
        row = analytic(n, seed=0)
        summaries.append(summary(f"analytic, {ANALYTIC} coordinates, {n} images", [row]))
    targets = range(num_classes)[:: num_classes if arguments.quick else 3]
    screened, sampled = [], []
    for k in bar(targets, "timed"):  # in turn: a slow moment of the computer falls on all alike
        sampled.append(rates(model, found, 0.5 if arguments.quick else SAMPLE_S / len(targets)))
        screened.append(timed(model, found, images, (said != k).nonzero()[:, 0], k))
    speeds = {name: median_of.median(s[name] for s in sampled) for name in sampled[0]}
    edits = 2 * study.effects.shape[2]

    def ratio(way: str) -> float:
        """How many times as long everything takes in a way, mean over the classes timed."""
        pairs = zip(screened, sampled, strict=True)
        return sum(r["images"] * edits / s[way] / r["seconds"] for r, s in pairs) / len(screened)

    return {
        "benchmark": "search",
        **facts(on),
        "images": count,
        "coordinates": study.effects.shape[2],
        "passes_per_second": speeds,
        "questions": summaries,
        "screened_for_real": screened,
        "engine_efficiency": speeds["resumed"] / speeds["batched"],
        "passes_ratio": summaries[0]["passes_ratio"],
        "top10_agreement": summaries[0]["found"],
        "top10_identical": summaries[0]["identical"],
        "seconds_ratio_exhaustive": ratio("resumed"),
        "seconds_ratio_batched": ratio("batched"),
        "seconds_ratio_official": ratio("official"),
    }


def main(given: Sequence[str] | None = None) -> int:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search")
    parser.add_argument("--images", type=int, default=1000, help="images in the exhaustive table")
    parser.add_argument("--checkpoint", default="pretrained/fashion-32")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--quick", action="store_true", help="only proves that it runs")
    arguments = parser.parse_args(given)
    if arguments.quick:
        arguments.images = min(arguments.images, 24)
    found = run(arguments)
    print(table(found["questions"], COLUMNS))
    for name, speed in found["passes_per_second"].items():
        note = " (a sample, extrapolated)" if name == "official" else ""
        print(f"{name:10s} {speed:8.0f} passes/s{note}")
    for name in (
        "engine_efficiency",
        "passes_ratio",
        "top10_agreement",
        "top10_identical",
        "seconds_ratio_exhaustive",
        "seconds_ratio_batched",
        "seconds_ratio_official",
    ):
        print(f"{name:26s} {found[name]:.2f}")
    write(arguments.json, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
