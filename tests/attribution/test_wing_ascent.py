"""Ascent: canvases in closed form, objectives that rise, goals that exist."""

import gc
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylex.attribution.ascent import ascent
from stylex.attribution.canvas import Canvas, total_variation
from stylex.attribution.exhibits import Pictures
from stylex.attribution.transforms import Transforms, blur, warp
from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.errors import InputError

STILL = Transforms(jitter_px=0, rotation_degrees=0, scaling=0, blur_px=0)
MOVED = Transforms(jitter_px=2, rotation_degrees=5, scaling=0.1, blur_px=1)


def classifier(size_px: int = 16, channels: int = 3) -> FrozenClassifier:
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2)),
        *(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )
    network[-1].weight.data.mul_(10)
    adapter = Adapter(
        input_resolution_px=size_px,
        input_channels=channels,
        input_range=(-1, 1),
        mean=[0],
        std=[1],
    )
    return FrozenClassifier(network, adapter, ("a", "b", "c"), [])


def run(
    frozen: FrozenClassifier | None = None, classes: tuple[int, ...] = (0,), **given: Any
) -> Pictures:
    frozen = frozen or classifier()
    channels = frozen.adapter.input_channels
    settings: dict[str, Any] = {
        "layer": "2",
        "filters": [0, 1, 2],
        "place": None,
        "canvas": Canvas(16, fourier=True, decay=1, spread=0.1),
        "transforms": STILL,
        "l2": 0,
        "total_variation_weight": 0,
        "steps": 10,
        "learning_rate": 0.05,
        "seed": 0,
        "chunk_size": 2,
        "columns": 3,
        **given,
    }
    images = torch.zeros(len(classes), channels, 8, 8)
    return ascent(frozen, images, torch.tensor(classes), **settings)


def rises(pictures: Pictures) -> list[bool]:
    ends = [caption.rsplit(": ", 1)[1].split(" → ") for caption in pictures.captions]
    return [float(after) > float(before) for before, after in ends]


@pytest.mark.parametrize("fourier", [True, False])
@pytest.mark.parametrize("goal", [{}, {"place": [2, 3]}, {"layer": None}])
def test_the_objective_rises_with_and_without_moves(fourier: bool, goal: dict[str, Any]) -> None:
    canvas = Canvas(16, fourier, decay=1, spread=0.1)
    for transforms in (STILL, MOVED):
        found = run(canvas=canvas, transforms=transforms, steps=40, **goal)
        assert all(rises(found))
        assert found.images.abs().max() <= 1


def test_captions_state_the_objective_of_the_shown_picture() -> None:
    frozen = classifier()
    found = run(frozen, classes=(1,), layer=None)
    assert found.captions[0].startswith("b: ")
    shown = float(found.captions[0].split(" → ")[1])
    assert shown == pytest.approx(float(frozen(found.images)[0, 1]), rel=0.006)


def test_pixels_of_a_linear_filter_go_the_way_of_its_weights() -> None:
    frozen = classifier(3)
    canvas = Canvas(3, fourier=False, decay=0, spread=0)
    found = run(frozen, layer="0", filters=[1], place=[1, 1], canvas=canvas, steps=1)
    # Adam's first step is the sign of the gradient times the rate.
    expected = (0.05 * frozen.network[0].weight[1].sign()).tanh()
    torch.testing.assert_close(found.images[0], expected, rtol=0, atol=1e-4)


def test_equal_seeds_give_equal_pictures_and_others_do_not() -> None:
    first, again = run(transforms=MOVED).images, run(transforms=MOVED).images
    assert torch.equal(first, again)
    assert not torch.equal(first, run(transforms=MOVED, seed=1).images)


def test_a_picture_depends_neither_on_the_chunks_nor_on_its_neighbours() -> None:
    together = run(transforms=MOVED, chunk_size=3)
    for chunk_size in (1, 2):
        found = run(transforms=MOVED, chunk_size=chunk_size)
        torch.testing.assert_close(found.images, together.images, rtol=0, atol=1e-4)
    alone = run(transforms=MOVED, filters=[2])
    torch.testing.assert_close(alone.images[0], together.images[2], rtol=0, atol=1e-4)


def test_images_of_one_class_share_one_picture() -> None:
    found = run(classes=(2, 0, 2), layer=None)
    assert [caption[0] for caption in found.captions] == ["c", "a", "c"]
    assert torch.equal(found.images[0], found.images[2])


def test_regularisers_lower_what_they_punish() -> None:
    free, small = run(steps=30), run(steps=30, l2=100.0)
    smooth = run(steps=30, total_variation_weight=100.0)
    assert small.images.square().mean() < free.images.square().mean()
    assert total_variation(smooth.images).mean() < total_variation(free.images).mean()


def test_nothing_of_the_classifier_changes_even_after_an_error() -> None:
    frozen = classifier()
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    with torch.no_grad():  # as a door may call it
        run(frozen)
    with pytest.raises(InputError):
        run(frozen, filters=[4])
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
    assert not any(m._forward_hooks for m in frozen.modules())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fourier", [True, False])
def test_zeros_are_grey(channels: int, fourier: bool) -> None:
    canvas = Canvas(9, fourier, decay=1, spread=0)
    images = canvas.images(canvas.start(channels, 0, torch.device("cpu")))
    assert torch.equal(images, torch.zeros(1, channels, 9, 9))


def test_one_number_of_the_spectrum_is_one_wave() -> None:
    canvas = Canvas(8, fourier=True, decay=1, spread=0)
    numbers = canvas.start(1, 0, torch.device("cpu"))
    numbers[0, 0, 0, 2, 0] = 0.5
    wave = canvas.images(numbers).atanh()[0, 0]
    expected = torch.cos(2 * math.pi * 2 * torch.arange(8) / 8).expand(8, 8)
    torch.testing.assert_close(wave / wave[0, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_numbers_of_variance_one_give_values_of_variance_one(decay: float) -> None:
    canvas = Canvas(32, fourier=True, decay=decay, spread=0.01)
    device = torch.device("cpu")
    starts = torch.cat([canvas.start(3, seed, device) for seed in range(200)])
    values = canvas.images(starts).double() / 0.01
    assert float(values.square().mean()) == pytest.approx(1, abs=0.1)


def test_variation_of_a_constant_is_zero_and_of_an_edge_its_height() -> None:
    images = torch.ones(2, 3, 4, 6)
    assert total_variation(images).tolist() == [0, 0]
    images[1, :, :, 2:] = -1  # 4 rows of 3 channels differ by 2
    assert total_variation(images).tolist() == pytest.approx([0, 2 * 4 * 3 / (3 * 4 * 6)])


def moved_by(change: Callable[[Tensor], Tensor], **move: Any) -> None:
    images = torch.rand(1, 2, 6, 6)
    settings: dict[str, Any] = {"degrees": 0, "scale": 1, "shift_px": [0, 0], **move}
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(warp(images, **settings)[inner], change(images)[inner])


def test_moves_are_those_asked_for() -> None:
    moved_by(lambda images: images, degrees=0)
    moved_by(lambda images: images.roll((1, 2), dims=(2, 3)), shift_px=[2, 1])
    moved_by(lambda images: images.rot90(-1, (2, 3)), degrees=90)


def test_blur_keeps_constants_and_spreads_a_point_evenly() -> None:
    torch.testing.assert_close(blur(torch.ones(1, 3, 5, 7), 1.5), torch.ones(1, 3, 5, 7))
    point = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    point[..., 7, 7] = 1
    found = blur(point, 1.0)[0, 0]
    assert float(found.sum()) == pytest.approx(1)
    assert float(found[7, 8] / found[7, 7]) == pytest.approx(math.exp(-0.5))
    assert torch.equal(blur(point, 0), point)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"layer": "nowhere"}, r"layer must name a layer of the network \(0, 1, 2"),
        ({"filters": [4]}, "filters must be some of 0 to 3 for '2', got \\[4\\]"),
        ({"filters": []}, "filters must be some of 0 to 3"),
        ({"layer": "5"}, "layer must name one whose output has filters, rows and columns, got '5'"),
        ({"place": [7, 0]}, "place must be a row below 7"),
        ({"layer": None, "classes": (3,)}, "targets must be classes from 0 to 2, got \\[3\\]"),
        ({"canvas": Canvas(0, True, 1, 1)}, "canvas.size_px must be at least 1, got 0"),
    ],
)
def test_goals_that_do_not_exist_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        run(**given)


def test_memory_stays_flat() -> None:
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(item), Tensor) for item in gc.get_objects())

    frozen = classifier()
    run(frozen, steps=1)
    before = alive()
    for _ in range(20):
        run(frozen, steps=1)
    assert alive() <= before
