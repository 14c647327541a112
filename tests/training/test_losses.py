"""Losses against sums written out, explicit Jacobians and finite differences."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stylex.training.losses import (
    classifier_divergence,
    discriminator_adversarial,
    generator_adversarial,
    path_length_penalty,
    path_lengths,
    perceptual_distance,
    r1_penalty,
    style_deviation,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def finite_difference(value: Callable[[], Tensor], parameter: Tensor) -> Tensor:
    """Central differences of `value` with respect to every entry of a parameter."""
    result = torch.zeros_like(parameter)
    flat, slopes, step = parameter.data.view(-1), result.view(-1), 1e-5
    for i in range(len(flat)):
        kept = float(flat[i])
        flat[i] = kept + step
        above = value().detach()
        flat[i] = kept - step
        below = value().detach()
        flat[i] = kept
        slopes[i] = (above - below) / (2 * step)
    return result


class TinyJudge(nn.Module):
    """A smooth discriminator of 2x3 images."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 5, dtype=torch.float64)
        self.second = nn.Linear(5, 1, dtype=torch.float64)

    def forward(self, images: Tensor) -> Tensor:
        """Returns one judgement per image."""
        return self.second(self.first(images.flatten(1)).tanh())[:, 0]


class TinyPainter(nn.Module):
    """A smooth generator: three latents of width 4 become images of 2 channels and 2x3 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 5, dtype=torch.float64)
        self.second = nn.Linear(5, 12, dtype=torch.float64)

    def forward(self, latents: Tensor) -> Tensor:
        """Returns images."""
        return self.second(self.first(latents.flatten(1)).tanh()).reshape(-1, 2, 2, 3)


def test_the_generators_loss_is_minus_the_log_probability_of_being_real() -> None:
    fake = torch.tensor([-2.0, 0.5, 3.0], dtype=torch.float64)

    expected = sum(-math.log(sigmoid(x)) for x in fake.tolist()) / 3

    assert float(generator_adversarial(fake)) == pytest.approx(expected, rel=1e-12)


def test_the_discriminators_loss_is_minus_the_log_probability_of_judging_right() -> None:
    real = torch.tensor([1.0, -0.3], dtype=torch.float64)
    fake = torch.tensor([-2.0, 0.5], dtype=torch.float64)

    expected = sum(-math.log(sigmoid(x)) for x in real.tolist()) / 2
    expected += sum(-math.log(1 - sigmoid(x)) for x in fake.tolist()) / 2

    assert float(discriminator_adversarial(real, fake)) == pytest.approx(expected, rel=1e-12)


def test_the_r1_penalty_is_half_the_mean_squared_norm_of_the_jacobian() -> None:
    judge = TinyJudge()
    images = torch.randn(3, 2, 2, 3, dtype=torch.float64)

    found = r1_penalty(judge(images.requires_grad_()), images)

    jacobian = torch.autograd.functional.jacobian(judge, images.detach())
    norms = [float(jacobian[n, n].square().sum()) for n in range(3)]
    assert float(found.detach()) == pytest.approx(sum(norms) / 3 / 2, rel=1e-10)


def test_the_r1_penaltys_parameter_gradient_equals_finite_differences() -> None:
    judge = TinyJudge()
    images = torch.randn(3, 2, 2, 3, dtype=torch.float64, requires_grad=True)

    def penalty() -> Tensor:
        return r1_penalty(judge(images), images)

    weights = (judge.first.weight, judge.second.weight)
    for parameter, found in zip(weights, torch.autograd.grad(penalty(), weights), strict=True):
        torch.testing.assert_close(
            found, finite_difference(penalty, parameter), rtol=1e-6, atol=1e-8
        )


def test_the_r1_penalty_of_a_quadratic_form_has_its_closed_form_and_gradient() -> None:
    a = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    images = torch.randn(4, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    x = images.flatten(1)

    penalty = r1_penalty((x @ a * x).sum(dim=1) / 2, images)
    (found,) = torch.autograd.grad(penalty, a)

    # D = xᵀAx/2: its gradient is g = (A + Aᵀ)x/2, the penalty |g|²/2, and that one's (gxᵀ + xgᵀ)/2.
    x, g = x.detach(), x.detach() @ (a + a.T).detach() / 2
    expected = torch.einsum("ni,nj->ij", g, x) + torch.einsum("ni,nj->ij", x, g)
    torch.testing.assert_close(penalty.detach(), g.square().sum() / 4 / 2)
    torch.testing.assert_close(found, expected / 2 / 4)


def expected_lengths(painter: nn.Module, latents: Tensor, noise: Tensor) -> list[float]:
    """|Jᵀy| / sqrt(pixels) from the whole Jacobian, the norm being the root mean over layers."""
    jacobian = torch.autograd.functional.jacobian(painter, latents)  # [b c h w b l d]
    lengths = []
    for n in range(len(latents)):
        pulled = torch.einsum("chwld,chw->ld", jacobian[n, :, :, :, n], noise[n]) / math.sqrt(6)
        lengths.append(math.sqrt(sum(float(row.square().sum()) for row in pulled) / len(pulled)))
    return lengths


def test_path_lengths_equal_the_norms_taken_from_the_whole_jacobian() -> None:
    painter = TinyPainter()
    latents = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, 2, 2, 3, dtype=torch.float64)

    found = path_lengths(painter(latents), latents, noise)

    assert found.tolist() == pytest.approx(
        expected_lengths(painter, latents.detach(), noise), rel=1e-10
    )


def test_the_path_length_penaltys_parameter_gradient_equals_finite_differences() -> None:
    painter = TinyPainter()
    latents = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, 2, 2, 3, dtype=torch.float64)
    mean = torch.tensor(0.3, dtype=torch.float64)

    def penalty() -> Tensor:
        return path_length_penalty(path_lengths(painter(latents), latents, noise), mean)

    weights = (painter.first.weight, painter.second.weight)
    for parameter, found in zip(weights, torch.autograd.grad(penalty(), weights), strict=True):
        torch.testing.assert_close(
            found, finite_difference(penalty, parameter), rtol=1e-6, atol=1e-8
        )


def test_the_path_length_penalty_is_the_mean_squared_distance_from_the_running_mean() -> None:
    lengths = torch.tensor([1.0, 4.0], dtype=torch.float64)
    mean = torch.tensor(2.0, dtype=torch.float64)

    assert float(path_length_penalty(lengths, mean)) == ((1 - 2) ** 2 + (4 - 2) ** 2) / 2


def divergence(p: list[list[float]], q: list[list[float]]) -> float:
    """KL(p ‖ q) in nats, mean over rows."""
    rows = zip(p, q, strict=True)
    return sum(a * math.log(a / b) for pr, qr in rows for a, b in zip(pr, qr, strict=True)) / len(p)


def test_the_classifiers_divergence_is_kl_from_the_original_to_the_generated_decision() -> None:
    p = [[0.7, 0.2, 0.1], [0.05, 0.05, 0.9]]
    q = [[0.2, 0.2, 0.6], [0.4, 0.3, 0.3]]
    original, generated = (torch.tensor(x, dtype=torch.float64).log() for x in (p, q))

    found = float(classifier_divergence(original + 2, generated - 5))  # logits have no zero point

    assert found == pytest.approx(divergence(p, q), rel=1e-12)
    assert abs(found - divergence(q, p)) > 0.01


def test_the_classifiers_divergence_of_equal_decisions_is_zero() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64)

    assert float(classifier_divergence(logits, logits + 7)) == pytest.approx(0, abs=1e-12)


def test_the_perceptual_distance_is_the_sum_over_layers_of_squared_distances_of_unit_features() -> (
    None
):
    shapes = [(2, 3, 2, 2), (2, 4, 1, 3)]
    original, generated = ([torch.randn(*s, dtype=torch.float64) for s in shapes] for _ in range(2))

    expected = 0.0
    for a, b in zip(original, generated, strict=True):
        batch, _, height, width = a.shape
        total = 0.0
        for n in range(batch):
            for i in range(height):
                for j in range(width):
                    u, v = a[n, :, i, j], b[n, :, i, j]
                    difference = u / math.sqrt(float(u @ u)) - v / math.sqrt(float(v @ v))
                    total += float(difference @ difference)
        expected += total / (batch * height * width)

    assert float(perceptual_distance(original, generated)) == pytest.approx(expected, rel=1e-10)


def test_the_perceptual_distance_is_blind_to_the_scale_of_features_and_zero_for_the_same() -> None:
    original, generated = ([torch.randn(2, 3, 2, 2, dtype=torch.float64)] for _ in range(2))

    scaled = perceptual_distance([5 * original[0]], generated)

    torch.testing.assert_close(scaled, perceptual_distance(original, generated))
    assert float(perceptual_distance(original, original)) == 0.0


def test_the_perceptual_distance_takes_as_many_layers_of_one_image_as_of_the_other() -> None:
    with pytest.raises(ValueError, match="shorter"):
        perceptual_distance([torch.ones(1, 2), torch.ones(1, 2)], [torch.ones(1, 2)])


def test_style_deviation_is_the_mean_in_units_of_each_layers_root_mean_square() -> None:
    styles = torch.randn(5, 5, dtype=torch.float64)

    expected = 0.0
    for columns in ((0, 1, 2), (3, 4)):
        values = [[float(styles[n, s]) for s in columns] for n in range(5)]
        size = math.sqrt(sum(v * v for row in values for v in row) / (5 * len(columns)))
        for s in range(len(columns)):
            mean = sum(row[s] for row in values) / 5
            expected += sum(abs(row[s] - mean) for row in values) / size
    expected /= 5 * 5

    assert float(style_deviation(styles, [3, 2])) == pytest.approx(expected, rel=1e-6)


def test_style_deviation_is_blind_to_the_scale_of_a_layer_and_not_to_that_of_a_coordinate() -> None:
    styles = torch.randn(5, 5, dtype=torch.float64)
    layer = torch.tensor([1.0, 1.0, 1.0, 30.0, 30.0], dtype=torch.float64)
    coordinate = torch.tensor([1.0, 1.0, 1.0, 1.0, 30.0], dtype=torch.float64)

    before = float(style_deviation(styles, [3, 2]))

    assert float(style_deviation(styles * layer, [3, 2])) == pytest.approx(before, rel=1e-6)
    assert float(style_deviation(styles * coordinate, [3, 2])) != pytest.approx(before, rel=1e-3)


def test_style_deviation_of_equal_styles_is_zero() -> None:
    styles = torch.randn(1, 5, dtype=torch.float64).expand(4, -1)

    assert float(style_deviation(styles, [3, 2])) == pytest.approx(0.0, abs=1e-12)
