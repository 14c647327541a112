"""COUT against closed forms: a linear path, the identity, an order of pixels."""

import pytest
import torch
from torch import Tensor

from stylex.evaluation.counterfactual.transition import COUT
from stylex.types import Images


def first_pixel_decides(images: Images) -> Tensor:
    """Certain: class 1 if the first pixel is white, else class 0."""
    first = images[:, 0, 0, 0]
    return torch.stack([-30 * first, 30 * first], dim=1)


def counts(images: Images) -> Tensor:
    """p(class 1) = share of white pixels, never quite 0 or 1."""
    share = ((images + 1) / 2).mean(dim=(1, 2, 3)).double().clamp(1e-9, 1 - 1e-9)
    return torch.stack([(1 - share).log(), share.log()], dim=1)


def scored(
    network: object, before: Tensor, after: Tensor, num_steps: int, batch_size: int = 64
) -> float:
    metric = COUT(network, num_steps=num_steps, batch_size=batch_size)  # type: ignore[arg-type]
    valid = torch.ones(len(before), dtype=torch.bool)
    metric.update(before, after, torch.ones(len(before), dtype=torch.int64), valid)
    value = metric.scores().over_all.value
    assert value is not None
    return value


def black(channels: int = 1, num_images: int = 1) -> Tensor:
    return torch.zeros(num_images, channels, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize("num_steps", [1, 3, 16, 50])  # also where steps are no whole pixels
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_probability_that_rises_in_proportion_to_the_pixels_gives_0(
    num_steps: int, channels: int
) -> None:
    # p(target) - p(source) runs from -1 to 1 on a line.
    white = torch.full_like(black(channels), 255)
    assert scored(counts, black(channels), white, num_steps) == pytest.approx(0, abs=1e-6)


def test_the_most_changed_pixel_comes_first() -> None:
    # All pixels change, the deciding one most: it flips at the first of 16 steps. The trapezoid
    # over that step is 0, all after it are 1.
    after = torch.full_like(black(), 100)
    after[0, 0, 0, 0] = 255
    assert scored(first_pixel_decides, black(), after, 16) == pytest.approx(15 / 16)
    after[0, 0, 0, 0] = 99  # now the last, and not bright enough
    assert scored(first_pixel_decides, black(), after, 16) == pytest.approx(-1, abs=1e-4)
    after = torch.full_like(black(), 255)
    after[0, 0, 0, 0] = 250
    assert scored(first_pixel_decides, black(), after, 16) == pytest.approx(-15 / 16)


@pytest.mark.parametrize("side", [7, 8, 16])
def test_the_area_never_exceeds_1_at_any_size(side: int) -> None:
    def always(images: Images) -> Tensor:
        after = (images.mean(dim=(1, 2, 3)) > -1).float() * 60 - 30
        return torch.stack([-after, after], dim=1)

    before = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    found = scored(always, before, torch.full_like(before, 9), 50)
    assert 0.95 < found < 1


def test_an_image_without_any_change_gives_0_even_where_the_source_is_certain() -> None:
    assert scored(first_pixel_decides, black(), black(), 50) == 0
    both = scored(
        first_pixel_decides,
        black(num_images=2),
        torch.stack([black()[0], torch.full_like(black()[0], 100)]),
        16,
    )
    assert both == pytest.approx(-1 / 2, abs=1e-4)


def test_other_classes_than_source_and_target_play_no_part() -> None:
    def three(images: Images) -> Tensor:
        two = first_pixel_decides(images)
        return torch.cat([two, two.amax(dim=1, keepdim=True) - 1e-3], dim=1)

    # The third class takes nearly half of the probability everywhere, from both alike.
    after = torch.full_like(black(), 100)
    after[0, 0, 0, 0] = 255
    expected = 15 / 16 * float(torch.tensor([0.0, -1e-3]).softmax(dim=0)[0])
    assert scored(three, black(), after, 16) == pytest.approx(expected, abs=1e-6)


def test_the_batch_size_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    before, after = (
        torch.randint(256, (5, 3, 4, 4), generator=generator, dtype=torch.uint8) for _ in range(2)
    )
    found = [scored(counts, before, after, 10, batch_size=size) for size in (2, 7, 500)]
    assert found[0] == pytest.approx(found[1]) == pytest.approx(found[2])
