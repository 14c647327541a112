"""Training of a classifier: loss, augmentation, schedule; that it learns, and goes on."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_trainer import loader, trainer
from torch import Tensor, nn

from stylex.classifier.backbones import SmallCNN
from stylex.classifier.frozen import Adapter
from stylex.classifier.module import ClassifierModule
from stylex.training.checkpoints import Checkpoint, stored_state
from stylex.types import Images

Batch = tuple[Images, Tensor]
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),  # in Lightning
]


def module(network: nn.Module, **changes: object) -> ClassifierModule:
    plain = Adapter(
        input_resolution_px=16, input_channels=1, input_range=[-1.0, 1.0], mean=[0.0], std=[1.0]
    )
    settings = {
        "num_steps": 30,
        "learning_rate": 0.01,
        "weight_decay": 0.05,
        "label_smoothing": 0.0,
        "flip_share": 0.0,
        "noise_std": 0.0,
        "batch_size": 16,
        "seed": 0,
    }
    return ClassifierModule(network, plain, **{**settings, **changes})


def small_cnn(num_classes: int = 2) -> SmallCNN:
    return SmallCNN(channels=1, num_classes=num_classes, width=4, dropout=0.2)


def bright_and_dark(num_batches: int) -> list[Batch]:
    """Noise around -0.4 is class 0, around 0.4 class 1."""
    labels = torch.randint(0, 2, (num_batches, 16))
    images = 0.3 * torch.randn(num_batches, 16, 1, 16, 16) + 0.8 * (
        labels[:, :, None, None, None] - 0.5
    )
    return list(zip(images, labels, strict=True))


class Mean(nn.Module):
    """One logit per image, its mean times a weight, as [b] or [b 1]."""

    def __init__(self, keep_axis: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))
        self.keep_axis = keep_axis

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits."""
        logits = self.weight * x.mean(dim=(1, 2, 3))
        return logits[:, None] if self.keep_axis else logits


class Seen(nn.Module):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        """Returns two equal logits."""
        self.images = x
        return self.weight.expand(len(x), 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_of_many_classes_is_cross_entropy_with_smoothed_labels(smoothing: float) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
    images, labels = torch.randn(5, 1, 16, 16), torch.tensor([0, 1, 2, 1, 0])

    loss = module(network, label_smoothing=smoothing).training_step((images, labels), 0)["loss"]

    expected = 0.0
    for row, label in zip(network(images).tolist(), labels.tolist(), strict=True):
        total = sum(math.exp(value) for value in row)
        logs = [math.log(math.exp(value) / total) for value in row]
        expected -= (1 - smoothing) * logs[label] + smoothing * sum(logs) / 3
    assert loss.item() == pytest.approx(expected / 5, rel=1e-5)


@pytest.mark.parametrize("keep_axis", [True, False])
def test_the_loss_of_one_logit_is_the_logarithm_of_the_right_sides_probability(
    keep_axis: bool,
) -> None:
    images, labels = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 1, 0])

    loss = module(Mean(keep_axis)).training_step((images, labels), 0)["loss"]

    expected = 0.0
    for image, label in zip(images, labels.tolist(), strict=True):
        yes = 1 / (1 + math.exp(-3 * float(image.mean())))
        expected -= math.log(yes if label else 1 - yes)
    assert loss.item() == pytest.approx(expected / 4, rel=1e-5)


def test_a_share_of_1_mirrors_every_image_left_to_right_and_0_none() -> None:
    images, labels = torch.randn(6, 1, 16, 16), torch.zeros(6, dtype=torch.int64)

    for share in (0.0, 1.0):
        seen = Seen()
        module(seen, flip_share=share).training_step((images, labels), 0)
        torch.testing.assert_close(seen.images, images.flip(3) if share else images)


def test_noise_has_the_deviation_asked_for_and_is_fresh_in_every_step() -> None:
    seen, drawn = Seen(), []
    training = module(seen, noise_std=0.1)
    images, labels = torch.zeros(64, 1, 16, 16), torch.zeros(64, dtype=torch.int64)

    for _ in range(2):
        training.training_step((images, labels), 0)
        drawn.append(seen.images)

    for noise in drawn:
        assert float(noise.std()) == pytest.approx(0.1, rel=0.03)  # 16384 values: 0.6 %
        assert float(noise.mean()) == pytest.approx(0.0, abs=0.005)
    assert not torch.equal(*drawn)


def test_augmentation_depends_on_seed_and_step_alone_and_leaves_the_batch_as_it_was() -> None:
    images, labels = torch.randn(8, 1, 16, 16), torch.zeros(8, dtype=torch.int64)
    before, random = images.clone(), torch.get_rng_state()

    found = []
    for seed, step in ((3, 5), (3, 5), (3, 6), (4, 5)):
        seen = Seen()
        training = module(seen, seed=seed, flip_share=0.5, noise_std=0.1)
        training.step = step
        training.training_step((images, labels), 0)
        found.append(seen.images)

    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), random)


def test_images_are_adapted_before_the_network_sees_them() -> None:
    seen = Seen()
    training = module(seen)
    training.adapter = Adapter(
        input_resolution_px=16, input_channels=1, input_range=[0.0, 1.0], mean=[0.5], std=[0.25]
    )
    images = torch.rand(3, 1, 16, 16) * 2 - 1

    training(images)

    torch.testing.assert_close(seen.images, ((images + 1) / 2 - 0.5) / 0.25)


def test_the_learning_rate_falls_along_a_cosine_to_zero() -> None:
    training = module(small_cnn(), num_steps=10, learning_rate=0.3, weight_decay=0.07)

    found = training.configure_optimizers()
    optimiser, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(10):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    rates.append(optimiser.param_groups[0]["lr"])

    assert rates == pytest.approx(
        [0.3 * (1 + math.cos(math.pi * i / 10)) / 2 for i in range(11)], abs=1e-12
    )
    assert found["lr_scheduler"]["interval"] == "step"
    assert optimiser.param_groups[0]["weight_decay"] == 0.07


@pytest.mark.parametrize("build", [small_cnn, lambda: Mean(keep_axis=True)])
def test_a_few_steps_teach_bright_from_dark(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    network = build()
    training = module(network, num_steps=60)

    trainer(tmp_path).fit(training, loader(bright_and_dark(60)))

    (images, labels), *_ = bright_and_dark(1)
    logits = training.eval()(images)
    guess = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
    assert training.step == 60
    assert torch.equal(guess, labels)


def test_a_stopped_run_goes_on_bit_for_bit_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    batches = bright_and_dark(6)

    def run(folder: Path, seed: int, batches: list[Batch], state: Any) -> ClassifierModule:  # noqa: ANN401
        torch.manual_seed(seed)
        training = module(small_cnn(), num_steps=6, flip_share=0.5, noise_std=0.1)
        saver = Checkpoint(folder, 100, state, {}, lambda _: None)
        trainer(folder, saver).fit(training, loader(batches))
        return training

    whole = run(tmp_path / "whole", 1, batches, None)
    run(tmp_path / "parts", 1, batches[:3], None)
    # Another seed: weights, optimiser, schedule and dropout must all come from the state.
    resumed = run(tmp_path / "parts", 2, batches[3:], stored_state(tmp_path / "parts"))

    assert resumed.step == whole.step == 6
    expected = whole.network.state_dict()
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, expected[name])
    first, second = (stored_state(tmp_path / name) for name in ("whole", "parts"))
    assert torch.equal(first["random"], second["random"])
    assert first["schedule"] == second["schedule"]
    moments = (state["optimiser"]["state"] for state in (first, second))
    for mine, theirs in zip(*(m.values() for m in moments), strict=True):
        assert all(torch.equal(mine[key], theirs[key]) for key in ("exp_avg", "exp_avg_sq"))


def test_the_small_network_has_three_named_stages_that_double_in_width_and_halve_in_size() -> None:
    network, x = small_cnn(5), torch.randn(2, 1, 16, 16)
    shapes = []
    for stage in (network.stage1, network.stage2, network.stage3):
        stage.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape)))

    logits = network(x)

    assert shapes == [(2, 4, 16, 16), (2, 8, 8, 8), (2, 16, 4, 4)]
    assert logits.shape == (2, 5)
