"""The judge of independence: what it measures, and that a step with it can be resumed."""

import copy
import math

import pytest
import torch
from torch import Tensor

from stylex.training.independence import FEWEST, Independence
from tests.training.conftest import Batch, MakeModule
from tests.training.test_stylex_module import take_steps


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sources(count: int, random: torch.Generator) -> Tensor:
    """Two independent factors, uniform with variance 1."""
    return (torch.rand(count, 2, generator=random) - 0.5) * math.sqrt(12)


def rotated(values: Tensor, angle: Tensor | float) -> Tensor:
    angle = torch.as_tensor(angle)
    turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).view(2, 2)
    return values @ turn


def told(judge: Independence, styles: Tensor, random: torch.Generator) -> Tensor:
    """What the judge says of styles that it is shown."""
    judge.remember(styles)
    return judge.dependence(styles, lambda *shape: torch.randn(shape, generator=random))


def measured(angle: float, steps: int = 300) -> float:
    """What the judge says of two factors mixed by an angle."""
    torch.manual_seed(0)
    judge, random = Independence(2), seeded()
    for _ in range(steps):
        told(judge, rotated(sources(64, random), angle), random)
        judge.learn(random)
    return float(told(judge, rotated(sources(1500, random), angle), random).detach())


def test_two_factors_in_two_coordinates_are_dependent_and_each_in_its_own_are_not() -> None:
    mixed, apart = measured(math.pi / 4), measured(0.0)
    assert abs(apart) < 0.05
    assert mixed > apart + 0.05  # though the coordinates are not correlated


def test_the_gradient_takes_mixed_factors_apart() -> None:
    torch.manual_seed(0)
    judge, random = Independence(2), seeded()
    angle = torch.tensor(0.6, requires_grad=True)
    optimiser = torch.optim.Adam([angle], 0.01)
    for _ in range(500):
        loss = told(judge, rotated(sources(64, random), angle), random)
        if loss.requires_grad:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        judge.learn(random)
    assert abs(float(angle.detach())) < 0.15


def test_a_penalty_gives_the_judge_no_gradient() -> None:
    judge, random = Independence(3), seeded()
    styles = torch.randn(FEWEST, 3, requires_grad=True)
    told(judge, styles, random).backward()
    assert styles.grad is not None
    assert all(parameter.grad is None for parameter in judge.judge.parameters())


def test_it_is_silent_until_it_has_seen_enough() -> None:
    judge, random = Independence(3), seeded()
    assert float(told(judge, torch.randn(FEWEST - 1, 3), random)) == 0.0
    assert float(judge.learn(random)) == 0.0
    assert float(told(judge, torch.randn(1, 3), random)) != 0.0


def test_its_state_is_all_that_goes_on() -> None:
    torch.manual_seed(0)
    first, second = Independence(4), Independence(4)
    styles = torch.randn(FEWEST + 7, 4)
    told(first, styles, seeded())
    first.learn(seeded())
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # as through a file
    for each in (first, second):
        each.learn(seeded(1))
    again = [told(each, styles[:5], seeded(2)) for each in (first, second)]
    assert torch.equal(again[0], again[1])


def test_a_step_without_its_weight_knows_nothing_of_it(
    make_trainee: MakeModule, batches: list[Batch]
) -> None:
    module = make_trainee(noise_path=False)
    assert module.independence is None
    assert "independence" not in take_steps(module, batches[:1])[0]


def test_a_step_with_its_weight_moves_the_encoder_by_it(
    make_trainee: MakeModule, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stylex.training.independence.FEWEST", 1)
    found = []
    for weight in (1e-9, 1000.0):
        torch.manual_seed(0)
        module = make_trainee(noise_path=False, weights={"independence": weight})
        terms = take_steps(module, batches[:2])
        assert {"independence", "style_judge"} <= set(terms[1])
        found.append(torch.cat([p.flatten() for p in module.model.encoder.parameters()]))
    assert not torch.equal(found[0], found[1])
