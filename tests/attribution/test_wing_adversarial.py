"""Attacks: closed forms on linear models, budgets, and another library."""

import gc
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.attribution.adversarial import fgsm, pgd
from stylex.attribution.perturbation import Attack, Budget, margins
from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.errors import InputError
from stylex.imaging import to_uint8
from stylex.types import Images, Labels

FGSM = {"toward": None, "epsilon_px": 8.0, "amplification": 10.0, "seed": 0, "chunk_size": 4}
PGD = {**FGSM, "norm": "linf", "step_px": 2.0, "num_steps": 6, "random_start": True}
NAMES = ("cat", "dog", "owl")


def wrapped(network: nn.Module) -> FrozenClassifier:
    form = {"input_resolution_px": 8, "input_channels": 3, "input_range": (-1, 1)}
    return FrozenClassifier(network, Adapter(**form, mean=(0,), std=(1,)), NAMES, ())


@pytest.fixture
def linear() -> FrozenClassifier:
    return wrapped(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))


@pytest.fixture
def curved() -> FrozenClassifier:
    layers = (nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, 3))
    return wrapped(nn.Sequential(*layers))


@pytest.fixture
def images() -> Images:
    """Whole levels, some at the ends."""
    return torch.randint(0, 256, (10, 3, 8, 8)) / 127.5 - 1


def decided(classifier: FrozenClassifier, images: Images) -> Labels:
    return classifier(images).argmax(dim=1)


def levels(images: Images) -> Tensor:
    return to_uint8(images).long()


@pytest.mark.parametrize(("norm", "epsilon_px"), [("linf", 5.0), ("linf", 2.5), ("l2", 60.0)])
@pytest.mark.parametrize("toward", [None, "least_likely", "owl"])
def test_attacked_images_keep_the_budget_in_whole_levels(
    curved: FrozenClassifier, images: Images, norm: str, epsilon_px: float, toward: str | None
) -> None:
    changed = {"norm": norm, "epsilon_px": epsilon_px, "toward": toward, "step_px": epsilon_px / 3}
    pictures, _ = pgd(curved, images, decided(curved, images), **{**PGD, **changed})
    before, after = pictures.images[0::3], pictures.images[1::3]
    assert torch.equal(before, images)
    torch.testing.assert_close(levels(after) / 127.5 - 1, after, atol=1e-6, rtol=0)
    change = (levels(after) - levels(before)).flatten(1).double()
    sizes = torch.linalg.vector_norm(change, math.inf if norm == "linf" else 2, dim=1)
    assert sizes.max() <= epsilon_px
    assert sizes.min() > 0.6 * epsilon_px  # and use it


def test_fgsm_finds_the_closed_form_of_a_linear_model(
    images: Images, linear: FrozenClassifier
) -> None:
    with torch.no_grad():
        linear.network[1].weight[2] = 0
        linear.network[1].bias.copy_(torch.tensor([0.0, 0.0, -1e9]))  # two classes are left
    targets = decided(linear, images)
    weight = linear.network[1].weight
    away = (weight[1 - targets] - weight[targets]).sign().reshape(images.shape)
    expected = (levels(images) + 8 * away.long()).clamp(0, 255)
    pictures, _ = fgsm(linear, images, targets, **FGSM)
    assert torch.equal(levels(pictures.images[1::3]), expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_larger_budget_succeeds_at_least_as_often_on_a_linear_model(norm: str) -> None:
    linear = wrapped(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))
    images = torch.randint(60, 190, (30, 3, 8, 8)) / 127.5 - 1  # no value meets an end
    targets, rates = decided(linear, images), []
    for epsilon_px in (1.0, 4.0, 16.0, 50.0):
        size = epsilon_px * (14 if norm == "l2" else 1)
        changed = {"norm": norm, "epsilon_px": size, "step_px": size, "random_start": False}
        table = pgd(linear, images, targets, **{**PGD, **changed, "toward": "owl"})[1]
        rates.append(table.rows[0][1])
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] == 1


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients:UserWarning")
@pytest.mark.parametrize("toward", [None, "dog"])
def test_attacks_equal_those_of_captum(
    curved: FrozenClassifier, images: Images, toward: str | None
) -> None:
    robust = pytest.importorskip("captum.robust")

    def loss(logits: Tensor, classes: Tensor) -> Tensor:
        return F.cross_entropy(logits, classes, reduction="none")

    targets = decided(curved, images)
    goals = targets if toward is None else torch.ones_like(targets)
    theirs = {"targeted": toward is not None, "target": goals}
    attack = robust.FGSM(curved, loss, lower_bound=-1, upper_bound=1)
    expected = attack.perturb(images, epsilon=8 / 127.5, **theirs).detach()
    found = fgsm(curved, images, targets, **{**FGSM, "toward": toward})[0].images[1::3]
    assert torch.equal(levels(found), levels(expected))
    steps = {"radius": 8 / 127.5, "step_size": 2 / 127.5, "step_num": 6}
    attack = robust.PGD(curved, loss, lower_bound=-1, upper_bound=1)
    expected = attack.perturb(images, **steps, **theirs).detach()
    changed = {"toward": toward, "random_start": False}
    found = pgd(curved, images, targets, **{**PGD, **changed})[0].images[1::3]
    assert torch.equal(levels(found), levels(expected))


def test_an_images_attack_depends_on_no_other_image(
    curved: FrozenClassifier, images: Images
) -> None:
    targets = decided(curved, images)
    together = pgd(curved, images, targets, **PGD)[0].images[1::3]
    for chosen in ([3], [7, 3, 0]):
        alone = pgd(curved, images[chosen], targets[chosen], **{**PGD, "chunk_size": 2})
        assert torch.equal(alone[0].images[1::3], together[chosen])
    other = pgd(curved, images, targets, **{**PGD, "seed": 1, "num_steps": 1})[0].images[1::3]
    assert not torch.equal(other, together)


def test_rates_count_images_that_were_right_before(
    curved: FrozenClassifier, images: Images
) -> None:
    targets = decided(curved, images)
    targets[:4] = (targets[:4] + 1) % 3  # four are called something else
    pictures, table = pgd(curved, images, targets, **{**PGD, "epsilon_px": 3.0})
    after = decided(curved, pictures.images[1::3])
    name, rate, low, high, count = table.rows[0]
    assert (name, count) == ("PGD, ±3, 6 steps", 6)
    assert rate == pytest.approx(float((after[4:] != targets[4:]).double().mean()))
    assert 0 <= low <= rate <= high <= 1
    to_owl = pgd(curved, images, targets, **{**PGD, "toward": "owl"})[1]
    assert to_owl.rows[0][4] == int((targets[4:] != 2).sum())  # those that were no owls


def test_a_sure_classifier_still_has_a_direction(linear: FrozenClassifier, images: Images) -> None:
    with torch.no_grad():
        linear.network[1].weight.mul_(1000)
    targets = decided(linear, images)
    shown = images.clone().requires_grad_(True)
    logits = linear(shown)
    saturated = torch.autograd.grad(F.cross_entropy(logits, targets), shown)[0]
    assert (saturated.flatten(1).abs().amax(dim=1) == 0).any()
    assert not torch.equal(fgsm(linear, images, targets, **FGSM)[0].images[1::3][0], images[0])


def test_margins_are_log_odds() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64)
    classes = torch.tensor([0, 1, 2, 3, 0, 1])
    p = logits.softmax(dim=1)[torch.arange(6), classes]
    torch.testing.assert_close(margins(logits, classes), (p / (1 - p)).log())


def test_random_starts_lie_in_the_ball_and_are_uniform() -> None:
    origin = torch.full((2, 1, 40, 40), 128.0)
    for norm, epsilon_px in (("linf", 8.0), ("l2", 300.0)):
        budget = Budget(norm, epsilon_px)
        noise = Attack("", budget, 1.0, 1, True, 0)._noise(origin)
        assert float(budget.size(noise).max()) <= epsilon_px * 1.0001
        assert torch.equal(noise[0], noise[1])
        assert abs(float(noise.mean())) < 0.1 * float(noise.std())
    assert float(noise.norm()) > 0


def test_pictures_say_what_they_show(linear: FrozenClassifier, images: Images) -> None:
    targets = decided(linear, images)
    pictures, _ = fgsm(linear, images, targets, **FGSM)
    probability = linear.probabilities(images)[0]
    assert pictures.captions[0] == f"{NAMES[int(targets[0])]} {100 * probability.max():.0f} %"
    assert pictures.captions[2] == "difference × 10, grey is none; at most 8 of 255 levels"
    change = (pictures.images[1] - pictures.images[0]) * 10
    torch.testing.assert_close(pictures.images[2], change.clamp(-1, 1))
    assert (len(pictures.images), pictures.columns) == (30, 3)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"toward": "cow"}, r"a class of the classifier \(cat, dog, owl\), got 'cow'"),
        ({"norm": "l1"}, "norm must be one of linf, l2, got 'l1'"),
        ({"epsilon_px": -1.0}, "epsilon_px must be at least 0, got -1"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named(
    linear: FrozenClassifier, images: Images, changed: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        pgd(linear, images, decided(linear, images), **{**PGD, **changed})


def test_memory_is_flat_over_200_calls(linear: FrozenClassifier, images: Images) -> None:
    few, targets = images[:2], decided(linear, images[:2])

    def held() -> int:
        fgsm(linear, few, targets, **FGSM)
        gc.collect()
        return sum(issubclass(type(each), Tensor) for each in gc.get_objects())

    before = held()
    for _ in range(199):
        fgsm(linear, few, targets, **FGSM)
    assert held() == before
    assert all(p.grad is None and not p.requires_grad for p in linear.parameters())
    assert few.grad is None
    assert not few.requires_grad
