"""Reliance: rendered interventions against a classifier whose rule is known by construction."""

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from stylex.data.drawn import DrawnSet, Factor, Values
from stylex.errors import InputError
from stylex.evaluation.reliance import Reliance, log_odds, measure_reliance, region
from stylex.progress import quiet
from stylex.types import Images


class Patches(DrawnSet):
    """One square of the picture a factor; its brightness is the factor's value."""

    FACTORS: ClassVar = (Factor("left"), Factor("right"), Factor("lamp", is_binary=True))
    CLASSES: ClassVar = ("dark", "bright")

    def paint(self, values: Values, size: int) -> Images:
        images = torch.zeros(len(values), 3, size, size)
        half = size // 2
        images[:, :, :half, :half] = values[:, 0, None, None, None] * 2 - 1
        images[:, :, :half, half:] = values[:, 1, None, None, None] * 2 - 1
        images[:, :, half:, half:] = values[:, 2, None, None, None] * 2 - 1
        return images

    def seen(self, values: Values) -> Tensor:
        return torch.ones(len(values), len(self.factors), dtype=torch.bool)


def patches(**changed: Any) -> Patches:
    settings = {
        "split": "test",
        "resolution": 32,
        "channels": 3,
        "rule": {"left": 1.0},
        "noise": 0.0,
        "planted": None,
        "num_images": {"test": 10},
        "seed": 0,
    }
    return Patches(**{**settings, **changed})


def read_patches(images: Images) -> Tensor:
    """The values of the three factors, from the pixels."""
    return (images[:, 0, [0, 0, -1], [0, -1, -1]] + 1) / 2


def linear(weights: list[float]) -> Any:
    def classify(images: Images) -> Tensor:
        score = read_patches(images) @ torch.tensor(weights)
        return torch.stack((-score / 2, score / 2), dim=1)

    return classify


def test_effects_of_a_linear_classifier_are_its_weights_in_its_own_standard_deviations() -> None:
    weights = [2.0, 0.0, -0.5]
    found = measure_reliance(patches(), linear(weights), 1, 4000, 0, quiet)
    spreads = torch.tensor([12**-0.5, 12**-0.5, 0.5])
    each = torch.tensor(weights) * spreads
    expected = 2 * each / each.square().sum().sqrt()  # from one spread below to one above
    assert (found.values() - expected).abs().max() < 0.05
    assert found.deviation == pytest.approx(float(each.square().sum().sqrt()), rel=0.05)


def test_the_other_class_of_two_has_the_opposite_effects() -> None:
    first, second = (
        measure_reliance(patches(), linear([1.0, 0.5, 0.2]), k, 50, 0, quiet) for k in (0, 1)
    )
    assert torch.allclose(first.values(), -second.values(), atol=1e-5)
    assert (first.target, second.target) == ("dark", "bright")


def test_relied_upon_are_the_factors_above_the_threshold_whatever_their_sign() -> None:
    found = measure_reliance(patches(), linear([1.0, 0.01, -0.5]), 1, 200, 0, quiet)
    assert found.relied_upon(0.1) == ("left", "lamp")
    assert found.relied_upon(10.0) == ()


def test_equal_seeds_give_equal_reliance() -> None:
    first, again = (
        measure_reliance(patches(), linear([1.0, 0.3, 0.2]), 1, 40, 5, quiet) for _ in "ab"
    )
    assert first == again


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64)
    p = logits.softmax(dim=1)[:, 2]
    assert torch.allclose(log_odds(logits, 2), (p / (1 - p)).log())


def test_a_region_is_where_the_factor_is_drawn_and_nowhere_else() -> None:
    drawn = patches()
    found = region(drawn, drawn.sample(5, 0), 1)
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[:16, 16:] = True
    assert torch.equal(found, expected.expand(5, -1, -1))


@pytest.mark.parametrize(
    ("classify", "count", "sentence"),
    [
        (linear([0.0, 0.0, 0.0]), 20, "logits differ between drawings"),
        (linear([1.0, 0.0, 0.0]), 1, "at least 2 drawings, got 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(classify: Any, count: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        measure_reliance(patches(), classify, 1, count, 0, quiet)


def test_a_negative_threshold_is_refused() -> None:
    with pytest.raises(InputError, match="at least 0, got -1"):
        Reliance("bright", (), (), 1.0).relied_upon(-1)
