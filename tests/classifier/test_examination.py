"""The doctor's measurements against closed forms and slow counts."""

import pytest
import torch
from torch import Tensor, nn

from stylex.classifier.adapter import Adapter
from stylex.classifier.consultation import consult
from stylex.classifier.examination import (
    accuracies,
    answer,
    better_inputs,
    calibration,
    cost,
    gradient,
)
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.reading import Reading
from stylex.errors import InputError

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Brightness(nn.Module):
    """Calls an image 1 if the mean of what it is given is above a threshold; logits ± distance."""

    def __init__(self, threshold: float, scale: float = 10.0) -> None:
        super().__init__()
        self.threshold, self.scale = threshold, scale

    def forward(self, x: Tensor) -> Tensor:
        z = self.scale * (x.mean(dim=(1, 2, 3)) - self.threshold)
        return torch.stack((-z, z), dim=1)


def judge(
    network: nn.Module, names: tuple[str, ...] = ("dark", "light"), **form: object
) -> FrozenClassifier:
    declared = {"input_range": [0, 1], "mean": [0], "std": [1], **form}
    adapter = Adapter(input_resolution_px=8, input_channels=3, **declared)
    return FrozenClassifier(network, adapter, names, [])


def grey(count: int = 60) -> tuple[list[Tensor], Tensor]:
    """Images of one value each, evenly from black to white, and whether they are light."""
    values = torch.linspace(-0.99, 0.99, count)
    images = values[:, None, None, None].expand(-1, 3, 8, 8)
    return list(images.split(16)), (values > 0).long()


def test_it_is_said_what_reaches_the_network_by_channel() -> None:
    batches, _ = grey()
    found = answer(judge(Brightness(0.5), **IMAGENET), batches)
    for c, (mean, std) in enumerate(zip(IMAGENET["mean"], IMAGENET["std"], strict=True)):
        assert found.lowest[c] == pytest.approx((0.005 - mean) / std, abs=1e-5)
        assert found.highest[c] == pytest.approx((0.995 - mean) / std, abs=1e-5)


def test_accuracy_is_counted_for_all_and_for_each_class() -> None:
    logits = torch.tensor([[2.0, 1], [2, 1], [1, 2], [2, 1], [1, 2]])
    overall, of_classes = accuracies(logits, torch.tensor([0, 0, 0, 1, 1]), 2)
    assert overall.value == pytest.approx(3 / 5)
    assert [(each.value, each.num_images) for each in of_classes] == [
        (pytest.approx(2 / 3), 3),
        (0.5, 2),
    ]


def test_the_calibration_error_is_that_of_a_count_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(400, 3, generator=generator)
    labels = torch.randint(3, (400,), generator=generator)
    error, bins = calibration(logits, labels, 10)
    found: list[list[tuple[float, bool]]] = [[] for _ in range(10)]
    for row, label in zip(logits.double().softmax(dim=1).tolist(), labels.tolist(), strict=True):
        best = max(row)
        i = next(i for i in range(10) if i / 10 < best <= (i + 1) / 10)
        found[i].append((best, row.index(best) == label))
    expected = sum(abs(sum(p for p, _ in part) - sum(right for _, right in part)) for part in found)
    assert error == pytest.approx(expected / 400, abs=1e-9)
    assert [each.accuracy.num_images for each in bins] == [len(part) for part in found]


def test_a_sure_and_right_classifier_is_calibrated_and_a_sure_and_wrong_one_is_not() -> None:
    logits = torch.tensor([[100.0, -100.0]] * 4)
    assert calibration(logits, torch.zeros(4, dtype=torch.int64), 15)[0] == pytest.approx(0)
    assert calibration(logits, torch.ones(4, dtype=torch.int64), 15)[0] == pytest.approx(1)


class Corner(nn.Module):
    """Sees the upper left quarter alone."""

    def forward(self, x: Tensor) -> Tensor:
        z = x[:, :, :4, :4].mean(dim=(1, 2, 3))
        return torch.stack((-z, z), dim=1)


class Cut(nn.Module):
    """Its outputs do not depend on the images for autograd."""

    def forward(self, x: Tensor) -> Tensor:
        return x.detach().mean(dim=(2, 3))[:, :2]


def test_the_share_of_pixels_that_a_gradient_reaches_is_counted() -> None:
    found = gradient(judge(Corner()), grey()[0][0])
    assert (found.finite, found.touched) == (True, 0.25)
    # The highest logit is ± the mean of 48 values in [0, 1], which is half of those in [-1, 1].
    assert found.norm == pytest.approx((48 * (0.5 / 48) ** 2) ** 0.5, rel=1e-5)
    assert gradient(judge(Cut()), grey()[0][0]).touched == 0


def test_a_better_input_is_found_and_a_right_one_has_no_better() -> None:
    batches, labels = grey()
    right = judge(Brightness(0.0), input_range=[-1, 1])
    assert better_inputs(right, batches, labels, answer(right, batches)) == []
    wrong = judge(Brightness(0.0))
    best = better_inputs(wrong, batches, labels, answer(wrong, batches))[0]
    assert best.accuracy.value == 1.0
    assert best.input_range in ((-1.0, 1.0), (0.0, 255.0), (0.0, 1.0))
    form = {"input_range": best.input_range, "mean": best.mean, "std": best.std}
    assert answer(judge(Brightness(0.0), **form), batches).logits.argmax(dim=1).equal(labels)


def test_speeds_are_positive_and_the_classifier_stays_as_it_was() -> None:
    frozen = judge(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    before = frozen.fingerprint()
    found = cost(frozen, grey()[0][0])
    assert min(found.forward, found.backward) > 0
    assert found.peak_bytes >= 0
    assert frozen.fingerprint() == before
    assert all(p.grad is None for p in frozen.parameters())


def test_classes_in_another_order_are_seen() -> None:
    batches, labels = grey()
    report = consult(judge(Brightness(0.5)), batches, 1 - labels, 15)
    line = next(line for line in report.lines if line[0] == "accuracy")
    assert line[1] == "warning"
    assert line[2].endswith("'dark' is called 'light', 'light' is called 'dark'")
    assert "classifier.label_names" in line[3]
    others = next(line for line in report.lines if line[0] == "other inputs")
    assert others[2:] == ("not tried as long as classes are called each other", "")


def test_a_classifier_no_better_than_the_commonest_class_is_seen() -> None:
    batches, labels = grey()
    report = consult(judge(Brightness(5.0)), batches, labels, 15)
    line = next(line for line in report.lines if line[0] == "accuracy")
    assert line[1] == "warning"
    assert "no better than calling all the commonest class (0.500)" in line[2]


def test_a_gradient_that_is_0_is_a_fault() -> None:
    batches, labels = grey()
    assert consult(judge(Brightness(0.5)), batches, labels, 15).fault == ""
    cut = judge(Cut(), input_range=[-1, 1])
    assert "must reach the image" in consult(cut, batches, labels, 15).fault


def test_logits_that_happen_to_lie_in_the_unit_interval_are_no_probabilities() -> None:
    batches, labels = grey()

    class Faint(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.4 + 0.1 * Brightness(0.5, 1.0)(x)

    found = answer(judge(Faint()), batches)
    assert found.kind == "sigmoid"  # by its outputs alone
    consult(judge(Faint()), batches, labels, 15)
    for bounded in (nn.Sigmoid(), nn.Softmax(1)):
        with pytest.raises(InputError, match="must return logits, got probabilities"):
            consult(judge(nn.Sequential(Faint(), bounded)), batches, labels, 15)


def test_sigmoids_of_labels_are_refused_and_their_logits_are_not() -> None:
    batches, labels = grey()
    for last, refused in ((nn.Sigmoid(), True), (nn.Identity(), False)):
        net = nn.Sequential(Brightness(0.5), nn.Linear(2, 2), last)
        frozen = judge(net, ("not light", "light"))
        frozen.reading = Reading(1, ("dark", "light"))
        if refused:
            with pytest.raises(InputError, match="cut the last sigmoid off the network"):
                consult(frozen, batches, labels, 15)
        else:
            outputs = consult(frozen, batches, labels, 15).lines[1][2]
            assert "explained as not light against light" in outputs
