"""Fidelity against its definitions, one image at a time."""

import math

import pytest
import torch

from stylex.evaluation.fidelity import Reconstructions, fidelity, reconstruct
from stylex.model import StylEx
from stylex.types import Images


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in logits)
    return [math.exp(z) / total for z in logits]


def random_reconstructions(num_images: int, num_classes: int) -> Reconstructions:
    generator = torch.Generator().manual_seed(4)
    logits = 2 * torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    noise = torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(num_classes, (num_images,), generator=generator)
    l1 = torch.rand(num_images, generator=generator, dtype=torch.float64)
    return Reconstructions(labels, logits, logits + noise, l1)


def test_figures_equal_their_definitions_one_image_at_a_time() -> None:
    found = random_reconstructions(40, 5)
    correct = agreed = 0
    divergence = 0.0
    for label, before, after in zip(
        found.labels.tolist(),
        found.logits.tolist(),
        found.reconstructed_logits.tolist(),
        strict=True,
    ):
        correct += before.index(max(before)) == label
        agreed += before.index(max(before)) == after.index(max(after))
        p, q = softmax(before), softmax(after)
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    figures = fidelity(found)
    assert 0 < correct < 40
    assert 0 < agreed < 40
    assert figures["classifier_accuracy"].value == pytest.approx(correct / 40)
    assert figures["agreement"].value == pytest.approx(agreed / 40)
    assert figures["reconstruction_l1"].value == pytest.approx(float(found.l1.mean()))
    assert figures["classifier_kl"].value == pytest.approx(divergence / 40)
    assert {figure.num_images for figure in figures.values()} == {40}
    for figure in figures.values():
        assert figure.interval is not None
        assert figure.interval[0] < figure.value < figure.interval[1]


def test_the_divergence_is_that_of_the_original_from_the_reconstruction() -> None:
    # By hand: p = (1/2, 1/2), q = (1/4, 3/4).
    found = Reconstructions(
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, 2, dtype=torch.float64),
        torch.tensor([[0.0, math.log(3)]], dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
    )
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert fidelity(found)["classifier_kl"].value == pytest.approx(expected)


def test_a_perfect_reconstruction_agrees_without_divergence() -> None:
    found = random_reconstructions(10, 3)
    perfect = Reconstructions(found.labels, found.logits, found.logits, torch.zeros(10))
    figures = fidelity(perfect)
    assert figures["agreement"].value == 1
    assert figures["classifier_kl"].value == pytest.approx(0, abs=1e-12)
    assert figures["reconstruction_l1"].value == 0


def test_reconstructions_equal_one_image_at_a_time(tiny_model: StylEx, tiny_images: Images) -> None:
    labels = torch.arange(12) % 3
    batches = zip(tiny_images.split(5), labels.split(5), strict=True)
    found = reconstruct(tiny_model, batches)
    assert torch.equal(found.labels, labels)
    for i, image in enumerate(tiny_images):
        made = tiny_model.reconstruct(image[None])
        pixels = [
            abs(float(a) - float(b)) for a, b in zip(made.flatten(), image.flatten(), strict=True)
        ]
        assert float(found.l1[i]) == pytest.approx(sum(pixels) / len(pixels), abs=1e-4)
        for given, expected in (
            (found.logits[i], tiny_model.classifier(image[None])[0]),
            (found.reconstructed_logits[i], tiny_model.classifier(made)[0]),
        ):
            torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)
