"""What all metrics of counterfactuals share: two figures, and processes that meet."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.evaluation.counterfactual.attributes import CD, MNAC
from stylex.evaluation.counterfactual.diversity import Diversity
from stylex.evaluation.counterfactual.identity import FS, FVA, S3
from stylex.evaluation.counterfactual.metric import CounterfactualMetric, PerImageMetric
from stylex.evaluation.counterfactual.proximity import L1, L2, LPIPS, Sparsity, mean_difference
from stylex.evaluation.counterfactual.realism import FidSplit
from stylex.evaluation.counterfactual.robustness import SurvivalRate
from stylex.evaluation.counterfactual.transition import COUT
from stylex.evaluation.counterfactual.validity import EditsToFlip, FlipRate, MeanScoreChange
from stylex.types import Images, Logits

NUM_IMAGES = 10


class Values(PerImageMetric):
    def update(self, values: Tensor, valid: Tensor) -> None:
        self.keep(values, valid)


class Flags(Values):
    is_share = True


def quadrants(images: Images) -> Tensor:
    """Mean of each quarter of the image, and the whole's."""
    quarters = torch.nn.functional.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), 2)
    return torch.cat([quarters.flatten(1), images.mean(dim=(1, 2, 3))[:, None]], dim=1)


def classes(images: Images) -> Logits:
    return 4 * quadrants(images)


def attributes(images: Images) -> Tensor:
    return quadrants(images).sigmoid()


def arguments(kind: str) -> tuple[Tensor, ...]:
    """Update arguments of a metric, one row an image."""
    generator = torch.Generator().manual_seed(5)
    shape = (NUM_IMAGES, 3, 6, 6)
    before, after = (
        torch.randint(256, shape, generator=generator, dtype=torch.uint8) for _ in range(2)
    )
    logits, others = (torch.randn(NUM_IMAGES, 5, generator=generator) for _ in range(2))
    targets = torch.randint(5, (NUM_IMAGES,), generator=generator)
    valid = torch.arange(NUM_IMAGES) % 2 == 0
    return {
        "pair": (before, after, valid),
        "path": (before, after, targets, valid),
        "logits": (logits, targets, valid),
        "change": (logits.softmax(1), others.softmax(1), targets, valid),
        "ids": (torch.arange(NUM_IMAGES) // 3, after, valid),
    }[kind]


METRICS: list[tuple[Callable[[], CounterfactualMetric], str]] = [
    (lambda: FlipRate(targeted=True), "logits"),
    (lambda: FlipRate(targeted=False), "logits"),
    (MeanScoreChange, "change"),
    (L1, "pair"),
    (L2, "pair"),
    (lambda: Sparsity(threshold=0.3), "pair"),
    (lambda: LPIPS(mean_difference), "pair"),
    (lambda: FVA(quadrants), "pair"),
    (lambda: FS(quadrants), "pair"),
    (lambda: S3(quadrants), "pair"),
    (lambda: MNAC(attributes), "pair"),
    (lambda: CD(attributes, queried=1, train_correlations=torch.rand(5)), "pair"),
    (lambda: COUT(classes, num_steps=7, batch_size=16), "path"),
    (lambda: FidSplit(quadrants, num_splits=3, seed=0), "pair"),
    (lambda: Diversity(mean_difference, batch_size=2), "ids"),
]


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    assert first.keys() == second.keys()
    return all(torch.allclose(first[key], second[key], equal_nan=True) for key in first)


def test_every_figure_is_given_over_all_images_and_over_the_valid_ones() -> None:
    values, valid = torch.rand(8), torch.arange(8) < 3
    metric = Values()
    metric.update(values, valid)
    found = metric.scores()
    assert (found.over_all.num_images, found.over_valid.num_images) == (8, 3)
    assert found.over_all.value == pytest.approx(float(values.mean()))
    assert found.over_valid.value == pytest.approx(float(values[:3].mean()))
    assert found.over_valid.interval == pytest.approx(mean(values[:3]).interval)
    flags = Flags()
    flags.update(values > 0.5, valid)
    assert flags.scores().over_all == share(values > 0.5)


def test_without_a_valid_image_the_figure_is_none_and_its_count_0() -> None:
    for build, kind in METRICS:
        *given, valid = arguments(kind)
        metric = build()
        metric.update(*given, torch.zeros_like(valid))
        found = metric.scores()
        assert found.over_valid == Estimate(None, 0, None), metric
        assert found.over_all.value is not None


def test_figures_over_the_valid_ones_are_those_of_the_valid_ones_alone() -> None:
    for build, kind in METRICS:
        *given, valid = arguments(kind)
        torch.manual_seed(0)
        metric = build()
        metric.update(*given, valid)
        torch.manual_seed(0)
        alone = build()
        alone.update(*(part[valid] for part in given), valid[valid])
        assert metric.scores().over_valid == alone.scores().over_all, metric
        assert metric.scores().over_all != metric.scores().over_valid


def test_metrics_of_two_processes_merge_into_one() -> None:
    for build, kind in METRICS:
        given = arguments(kind)
        torch.manual_seed(0)
        one = build()
        one.update(*given)
        torch.manual_seed(0)
        first, second = build(), build()
        first.update(*(part[:4] for part in given))
        second.update(*(part[4:7] for part in given))
        second.update(*(part[7:] for part in given))
        if isinstance(one, CD):
            second.train_correlations = first.train_correlations
        # torchmetrics puts the other's list states in front.
        second.merge_state(first)
        assert same(second.compute(), one.compute()), one


def test_a_reset_forgets_all_images() -> None:
    for build, kind in METRICS:
        given = arguments(kind)
        torch.manual_seed(0)
        metric = build()
        metric.update(*(part.flip(0)[:5] for part in given))
        metric.reset()
        metric.update(*given)
        torch.manual_seed(0)
        fresh = build()
        fresh.update(*given)
        assert same(metric.compute(), fresh.compute())


def test_every_metric_says_which_way_is_better_and_lists_its_states() -> None:
    others: list[CounterfactualMetric] = [EditsToFlip(), SurvivalRate()]
    for metric in [build() for build, _ in METRICS] + others:
        assert metric.higher_is_better in (True, False)
        assert not metric.is_differentiable
        assert not metric.full_state_update
        assert type(metric).__doc__


def test_a_collection_of_metrics_gives_plain_numbers() -> None:
    found: dict[str, Any] = MetricCollection({"l1": L1(), "l2": L2()})(*arguments("pair"))
    assert found["l1_all_count"] == NUM_IMAGES
    assert found["l1_valid"] < found["l2_valid"]


def test_a_network_that_gives_nan_is_refused_rather_than_reported_as_no_figure() -> None:
    metric = FS(lambda images: images.flatten(1) * torch.nan)
    with pytest.raises(InputError, match="FS must be finite for every image, got NaN"):
        metric.update(*arguments("pair"))


PROCESS = """
import sys, torch, torch.distributed as distributed
from stylex.evaluation.counterfactual.realism import FidSplit
rank, path = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
pixels = torch.randint(256, (9, 1, 2, 2), generator=torch.Generator().manual_seed(0)).byte()
valid = torch.arange(9) != 2
def built(**settings):
    return FidSplit(lambda images: images.flatten(1), num_splits=3, seed=1, **settings)
mine, rows = built(), slice(0, 4) if rank == 0 else slice(4, 9)
mine.update(pixels[rows], pixels.flip(0)[rows], valid[rows])
alone = built(sync_on_compute=False)
alone.update(pixels, pixels.flip(0), valid)
assert mine.scores() == alone.scores(), (mine.scores(), alone.scores())
assert mine.scores().over_valid.num_images == 8
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_gather_each_others_images(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path / "meeting")],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=100)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
