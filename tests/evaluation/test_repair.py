"""A network that reads a watermark reads faces after training on drawings with it turned over."""

from pathlib import Path

import pytest
import torch
from torch import nn

from stylex.classifier.backbones import SmallCNN
from stylex.classifier.frozen import FrozenClassifier, build_adapter
from stylex.data.augmentation import AugmentedSet
from stylex.data.datasets import ImageSet
from stylex.data.faces import Faces
from stylex.estimates import Estimate
from stylex.evaluation.bias import accuracy_table, judge
from stylex.evaluation.groups import planted_groups
from stylex.imaging import to_uint8, write_png
from stylex.progress import quiet

FORM = {"input_resolution_px": 32, "input_channels": 3, "input_range": [-1, 1]}


def drawn(split: str, count: int) -> Faces:
    return Faces(
        split=split,
        resolution=32,
        channels=3,
        rule={"glasses": 1.0, "beard": 0.7},
        noise=0.3,
        planted=0.95,
        num_images={split: count},
        seed=0,
    )


def trained(data: ImageSet, num_steps: int) -> FrozenClassifier:
    torch.manual_seed(0)
    network = SmallCNN(channels=3, num_classes=2, width=8, dropout=0.0)
    optimiser = torch.optim.AdamW(network.parameters(), 0.005)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
    images, labels = data.batch(range(len(data)))
    for _ in range(num_steps):
        rows = torch.randint(len(data), (64,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimiser.step()
        schedule.step()
    adapter = build_adapter({**FORM, "mean": [0], "std": [1]})
    return FrozenClassifier(network, adapter, data.class_names, [])


@pytest.mark.slow
def test_the_worst_group_gains_twenty_points_from_drawn_counterfactuals(tmp_path: Path) -> None:
    training, testing = drawn("train", 1500), drawn("test", 800)
    values = training.values.clone()
    values[:, -1] = 1 - values[:, -1]
    for i, pixels in enumerate(to_uint8(training.draw(values))):
        name = training.class_names[int(training.labels[i])]
        write_png(tmp_path / name / f"{i}-a1.png", pixels)
    before, after = trained(training, 150), trained(AugmentedSet(training, tmp_path), 150)
    table = accuracy_table(judge(before, after, testing, quiet), planted_groups(testing))
    worst = table.rows[-1]
    assert worst.name == "worst_group"
    low, high = (cell.value for cell in worst.cells[:2] if isinstance(cell, Estimate))
    assert low is not None
    assert high is not None
    assert high > low + 0.2, table
