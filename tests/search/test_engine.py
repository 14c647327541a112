"""The engine against one whole synthesis per edit, and against finite differences."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stylex.errors import InputError
from stylex.model import StylEx
from stylex.search.edits import Edits
from stylex.search.engine import CPU_BATCH, STATE_BLOCK, Engine
from stylex.search.statistics import Statistics, collect
from stylex.types import Images, Logits


@pytest.fixture
def study(tiny_model: StylEx, study_images: Images) -> Statistics:
    """Of forty images, computed in float64."""
    tiny_model.double()
    with torch.no_grad():
        images = study_images[:40].double()
        latents = tiny_model.encode(images)
        styles = tiny_model.generator.styles(latents)
        base = tiny_model.classifier(tiny_model.render(styles))
        extremes = torch.stack((styles.amin(dim=0), styles.amax(dim=0)))
        logits = tiny_model.classifier(images)
    return Statistics(torch.arange(40), latents, styles, logits, base, extremes)


@pytest.fixture
def study32(tiny_model: StylEx, study_images: Images) -> Statistics:
    """Of forty images, in float32 as in a search."""
    return collect(tiny_model, [study_images[:40]], list(range(40)), quantile=0.0)


def engine_of(
    model: StylEx,
    found: Statistics,
    batch_size: int | None = 16,
    **settings: Any,
) -> Engine:
    study = (found.styles, found.base_logits, found.extremes)
    return Engine(model, *study, batch_size=batch_size, **settings)


@torch.no_grad()
def one_by_one(model: StylEx, found: Statistics, edits: Edits) -> Tensor:
    """One image, one edit at a time, from the constant to the pixels."""
    changes = []
    for i in range(len(edits)):
        row, coordinate = int(edits.images[i]), int(edits.coordinates[i])
        styles = found.styles[row].clone()
        step = found.extremes[int(edits.directions[i]), coordinate] - styles[coordinate]
        styles[coordinate] += edits.strengths[i].to(styles) * step
        logits = model.classifier(model.render(styles[None]))[0]
        changes.append(logits - found.base_logits[row])
    return torch.stack(changes)


def shuffled(
    model: StylEx, count: int = 300, num_images: int = 40, generator_seed: int = 4
) -> Edits:
    """Any edits, in any order, images and edits repeated."""
    random = torch.Generator().manual_seed(generator_seed)
    limits = (num_images, model.generator.layout.num_coordinates, 2)
    numbers = (torch.randint(limit, (count,), generator=random) for limit in limits)
    strengths = torch.tensor([0.5, 1.0, 2.0])[torch.randint(3, (count,), generator=random)]
    return Edits(*numbers, strengths)


def same_to_the_last_digits(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() < 1e-5 * expected.abs().max())


def coordinates_of(model: StylEx) -> Tensor:
    return torch.arange(model.generator.layout.num_coordinates)


# Edits


def test_a_grid_goes_through_images_directions_and_coordinates_in_this_order() -> None:
    grid = Edits.grid(torch.tensor([7, 2]), torch.tensor([5, 0, 3]), 1.5)
    expected = [(i, d, c) for i in (7, 2) for d in (0, 1) for c in (5, 0, 3)]
    columns = (grid.images.tolist(), grid.directions.tolist(), grid.coordinates.tolist())
    assert list(zip(*columns, strict=True)) == expected
    assert len(grid) == 12
    assert grid.strengths.tolist() == [1.5] * 12


def test_edits_are_selected_and_concatenated_in_the_order_asked_for(tiny_model: StylEx) -> None:
    edits = shuffled(tiny_model, 6)
    again = Edits.concatenate(
        [edits.select(torch.tensor([4, 1])), edits.select(edits.images >= 99)]
    )
    assert len(again) == 2
    assert again.coordinates.tolist() == edits.coordinates[[4, 1]].tolist()
    assert again.strengths.tolist() == edits.strengths[[4, 1]].tolist()


# What is measured


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_every_edit_of_every_layer_equals_a_whole_synthesis(
    tiny_model: StylEx, study: Statistics, strength: float
) -> None:
    edits = Edits.grid(torch.tensor([3, 8]), coordinates_of(tiny_model), strength)
    found = engine_of(tiny_model, study).measure(edits)
    expected = one_by_one(tiny_model, study, edits)
    by_coordinate = expected.reshape(2, 2, -1, 3).abs().amax(dim=(0, 1, 3))
    assert (by_coordinate > 1e-3).all()  # each coordinate does something
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_edits_in_any_order_with_images_repeated_equal_whole_syntheses(
    tiny_model: StylEx, study: Statistics
) -> None:
    edits = shuffled(tiny_model)
    found = engine_of(tiny_model, study).measure(edits)
    expected = one_by_one(tiny_model, study, edits)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_a_few_edits_of_each_of_many_images_equal_whole_syntheses(
    tiny_model: StylEx, study: Statistics
) -> None:
    edits = shuffled(tiny_model, 45)
    counts = edits.images.bincount(minlength=40)
    assert (counts == 1).any()
    assert (counts >= 3).any()
    found = engine_of(tiny_model, study).measure(edits)
    torch.testing.assert_close(found, one_by_one(tiny_model, study, edits), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 7, 1000, None])
def test_changes_depend_on_the_batch_size_in_the_last_digits_alone(
    tiny_model: StylEx, study32: Statistics, batch_size: int | None
) -> None:
    edits = shuffled(tiny_model)
    expected = engine_of(tiny_model, study32).measure(edits)
    found = engine_of(tiny_model, study32, batch_size).measure(edits)
    assert found.dtype == torch.float32
    assert same_to_the_last_digits(found, expected)


def test_strength_zero_changes_nothing(tiny_model: StylEx, study: Statistics) -> None:
    edits = Edits.grid(torch.arange(4), coordinates_of(tiny_model), 0.0)
    assert engine_of(tiny_model, study).measure(edits).abs().max() < 1e-10


def test_no_edits_have_no_changes(tiny_model: StylEx, study32: Statistics) -> None:
    none = shuffled(tiny_model).select(torch.tensor([], dtype=torch.int64))
    engine = engine_of(tiny_model, study32)
    assert engine.measure(none).shape == (0, 3)
    assert engine.logits(study32.styles[:0]).shape == (0, 3)
    assert engine.passes == 0


def test_logits_are_those_of_whole_style_vectors(tiny_model: StylEx, study: Statistics) -> None:
    engine = engine_of(tiny_model, study)
    torch.testing.assert_close(engine.logits(study.styles), study.base_logits)
    assert engine.passes == 40


def test_the_engine_leaves_model_and_study_untouched(
    tiny_model: StylEx, study32: Statistics
) -> None:
    kept = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    given = {name: getattr(study32, name).clone() for name in ("styles", "base_logits", "extremes")}
    edits = shuffled(tiny_model)
    copies = [edits.images.clone(), edits.strengths.clone()]
    engine = engine_of(tiny_model, study32)
    engine.measure(edits)
    engine.slopes(torch.arange(5), [first_logit])
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(value, kept[name]), name
    for name, value in given.items():
        assert torch.equal(getattr(study32, name), value), name
    assert torch.equal(edits.images, copies[0])
    assert torch.equal(edits.strengths, copies[1])
    assert not study32.styles.requires_grad


# The same bits, whatever was asked before and however the list is shared


@pytest.mark.parametrize("memory_share", [0.25, 0.0])
def test_changes_are_the_same_bits_whatever_was_asked_before(
    tiny_model: StylEx, study32: Statistics, memory_share: float
) -> None:
    edits = shuffled(tiny_model)
    expected = engine_of(tiny_model, study32).measure(edits)
    engine = engine_of(tiny_model, study32, memory_share=memory_share)
    engine.measure(Edits.grid(torch.arange(5, 30), torch.tensor([3, 40]), 2.0))
    engine.measure(shuffled(tiny_model, 200, generator_seed=5))
    assert torch.equal(engine.measure(edits), expected)
    assert torch.equal(engine.measure(edits), expected)
    engine.forget()
    assert torch.equal(engine.measure(edits), expected)


def test_batches_measured_apart_give_the_bits_of_one_process(
    tiny_model: StylEx, study32: Statistics
) -> None:
    edits = shuffled(tiny_model)
    whole = engine_of(tiny_model, study32).measure(edits)
    shared = torch.zeros_like(whole)
    for rank in range(3):
        engine = engine_of(tiny_model, study32)
        mine = engine.batches(edits)[rank::3]
        found = engine.measure(edits, mine)
        others = torch.ones(len(edits), dtype=torch.bool)
        others[torch.cat(mine)] = False
        assert (found[others] == 0).all()
        shared += found
    assert torch.equal(shared, whole)


def test_batches_hold_every_edit_once_and_start_at_one_layer_each(
    tiny_model: StylEx, study32: Statistics
) -> None:
    edits = shuffled(tiny_model)
    batches = engine_of(tiny_model, study32).batches(edits)
    assert torch.cat(batches).sort().values.tolist() == list(range(300))
    assert max(map(len, batches)) == 16
    layout = tiny_model.generator.layout
    resumed = edits.images.bincount() >= 10  # of 300 edits, surely 3 past the first layer
    for batch in batches:
        starts = set()
        for i in batch.tolist():
            layer = layout.locate(int(edits.coordinates[i])).layer
            if resumed[edits.images[i]]:
                starts.add(layer if layer < 5 else 2 * (layer - 5))
        assert len(starts) <= 1


def test_batches_span_images_where_each_has_few_edits(
    tiny_model: StylEx, study32: Statistics
) -> None:
    edits = Edits.grid(torch.arange(40), torch.tensor([30]), 1.0)  # two edits of each image
    assert [len(b) for b in engine_of(tiny_model, study32).batches(edits)] == [16] * 5


# Passes


def test_every_edit_and_every_image_resumed_count_as_one_pass(
    tiny_model: StylEx, study32: Statistics
) -> None:
    engine = engine_of(tiny_model, study32)
    grid = Edits.grid(torch.arange(20), coordinates_of(tiny_model), 1.0)
    engine.measure(grid)
    assert engine.passes == len(grid) + 20
    engine.measure(grid)
    assert engine.passes == 2 * len(grid) + 20  # the states were kept
    engine.forget()
    engine.measure(grid)
    assert engine.passes == 3 * len(grid) + 2 * 20


def test_states_are_made_from_three_edits_past_the_first_layer_on(
    tiny_model: StylEx, study32: Statistics
) -> None:
    def passes(coordinates: list[int]) -> int:
        engine = engine_of(tiny_model, study32)
        count = len(coordinates)
        some = Edits(
            torch.full((count,), 6),
            torch.tensor(coordinates),
            torch.zeros(count, dtype=torch.int64),
            torch.ones(count),
        )
        engine.measure(some)
        return engine.passes

    assert passes([20, 30]) == 2
    assert passes([20, 30, 31]) == 3 + 1
    assert passes([0, 1, 2, 3, 20, 30]) == 6  # the first layer's input is a constant


def test_without_memory_for_states_they_are_computed_for_every_batch_that_needs_them(
    tiny_model: StylEx, study32: Statistics
) -> None:
    engine = engine_of(tiny_model, study32, memory_share=0.0)
    engine.measure(Edits.grid(torch.tensor([0]), torch.tensor([10, 18, 26]), 1.0))
    assert engine.passes == 6 + 3


# Slopes


def first_logit(logits: Logits) -> Tensor:
    return logits[:, 0]


def certainty(logits: Logits) -> Tensor:
    return logits.log_softmax(dim=1)[:, 2] * logits[:, 1]


@pytest.mark.parametrize("batch_size", [2, 16])
def test_slopes_equal_finite_differences_and_count_one_pass_and_two_per_score(
    tiny_model: StylEx, study: Statistics, batch_size: int
) -> None:
    engine = engine_of(tiny_model, study, batch_size)
    images, step = torch.tensor([5, 1, 30]), 1e-6
    slopes = engine.slopes(images, [first_logit, certainty])
    assert engine.passes == 3 * (1 + 2 * 2)
    assert slopes.shape == (3, tiny_model.generator.layout.num_coordinates, 2)
    for i, row in enumerate(images.tolist()):
        steps = step * torch.eye(slopes.shape[1], dtype=torch.float64)
        up = engine.logits(study.styles[row] + steps)
        down = engine.logits(study.styles[row] - steps)
        for j, score in enumerate((first_logit, certainty)):
            expected = (score(up) - score(down)) / (2 * step)
            torch.testing.assert_close(slopes[i, :, j], expected, atol=1e-6, rtol=1e-5)


# Memory


def limited(model: StylEx, most: int, message: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Synthesis of more images than `most` raises; the sizes tried."""
    synthesis, sizes = model.generator.synthesis, []

    def spy(styles: Tensor, *rest: object, **named: object) -> Images:
        sizes.append(len(styles))
        if len(styles) > most:
            raise RuntimeError(message)
        return synthesis(styles, *rest, **named)

    monkeypatch.setattr(model.generator, "synthesis", spy)
    return sizes


def test_batches_are_halved_when_memory_runs_out_which_is_said_once(
    tiny_model: StylEx,
    study32: Statistics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    edits = shuffled(tiny_model)
    expected = engine_of(tiny_model, study32, 4).measure(edits)
    message = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
    sizes = limited(tiny_model, 5, message, monkeypatch)
    engine = engine_of(tiny_model, study32, 16)
    with caplog.at_level(logging.WARNING, "stylex.search"):
        found = engine.measure(edits)
    assert same_to_the_last_digits(found, expected)
    assert [size for size in sizes if size > 5] == [16, 8]  # each size is tried once
    assert caplog.messages == ["search: memory ran out at 16 images per pass, which are halved"]
    assert engine.batch_size == 16  # which edits belong together stays as it was
    engine.slopes(torch.arange(9), [first_logit])
    assert max(sizes[-3:]) == 4


def test_memory_for_less_than_one_image_is_refused(
    tiny_model: StylEx, study32: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = limited(tiny_model, 0, "not enough memory: you tried to allocate", monkeypatch)
    with pytest.raises(InputError, match="memory must suffice for one edited image at a time"):
        engine_of(tiny_model, study32).measure(shuffled(tiny_model))
    assert sizes == [16, 8, 4, 2, 1]


def test_other_errors_pass_through(
    tiny_model: StylEx, study32: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = limited(tiny_model, 0, "another fault", monkeypatch)
    with pytest.raises(RuntimeError, match="another fault"):
        engine_of(tiny_model, study32).measure(shuffled(tiny_model))
    assert sizes == [16]


# What is refused


def test_slopes_of_no_image_are_refused(tiny_model: StylEx, study32: Statistics) -> None:
    with pytest.raises(InputError, match="images must be 0 to 39, got -1"):
        engine_of(tiny_model, study32).slopes(torch.tensor([3, -1]), [first_logit])


def test_batches_of_other_edits_are_refused(tiny_model: StylEx, study32: Statistics) -> None:
    engine = engine_of(tiny_model, study32)
    edits = shuffled(tiny_model)
    with pytest.raises(InputError, match="batches must be those of these edits, got another"):
        engine.measure(edits, engine.batches(shuffled(tiny_model, generator_seed=5)))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("images", 40, "images of edits must be 0 to 39, got 40"),
        ("images", -1, "images of edits must be 0 to 39, got -1"),
        ("coordinates", 56, "coordinates of edits must be 0 to 55, got 56"),
        ("directions", 2, "directions of edits must be 0 to 1, got 2"),
        ("strengths", float("nan"), "strengths of edits must be finite numbers"),
    ],
)
def test_edits_of_nothing_are_refused(
    tiny_model: StylEx, study32: Statistics, name: str, value: float, message: str
) -> None:
    edits = shuffled(tiny_model, 5)
    getattr(edits, name)[3] = value
    with pytest.raises(InputError, match=message):
        engine_of(tiny_model, study32).measure(edits)


def test_settings_that_cannot_be_are_refused(tiny_model: StylEx, study32: Statistics) -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        engine_of(tiny_model, study32, 0)
    with pytest.raises(InputError, match=r"memory_share must be in \[0, 1\], got 1.5"):
        engine_of(tiny_model, study32, memory_share=1.5)
    with pytest.raises(InputError, match="compile must be null or one of default, .*, got 'fast'"):
        engine_of(tiny_model, study32, compile="fast")


# How it computes


def test_a_cpu_takes_its_own_batch_size(tiny_model: StylEx, study32: Statistics) -> None:
    assert engine_of(tiny_model, study32, None).batch_size == CPU_BATCH >= STATE_BLOCK


def test_the_classifiers_images_may_have_their_channels_innermost(
    tiny_model: StylEx, study32: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = shuffled(tiny_model)
    expected = engine_of(tiny_model, study32).measure(edits)
    engine = engine_of(tiny_model, study32, channels_last=True)
    forward, strides = tiny_model.classifier.network.forward, []

    def spy(images: Images) -> Logits:
        strides.append(images.is_contiguous(memory_format=torch.channels_last))
        return forward(images)

    monkeypatch.setattr(tiny_model.classifier.network, "forward", spy)
    assert same_to_the_last_digits(engine.measure(edits), expected)
    assert all(strides)


def test_a_lower_type_costs_digits_and_gives_float32(
    tiny_model: StylEx, study32: Statistics
) -> None:
    edits = shuffled(tiny_model)
    expected = engine_of(tiny_model, study32).measure(edits)
    low = engine_of(tiny_model, study32, autocast=torch.bfloat16)
    base = replace(study32, base_logits=low.logits(study32.styles))
    found = engine_of(tiny_model, base, autocast=torch.bfloat16).measure(edits)
    assert found.dtype == torch.float32
    error = (found - expected).abs().mean() / expected.abs().mean()
    assert 1e-5 < error < 0.1  # the last layer enlarges all differences


@pytest.mark.slow
def test_compiled_changes_equal_plain_ones_with_one_graph_per_layer(tiny_checkpoint: Path) -> None:
    # In a process of its own, where no types are checked: PyTorch cannot compile the checks.
    program = """
import sys, torch, stylex
from stylex.search.edits import Edits
from stylex.search.engine import Engine

model = stylex.load(sys.argv[1])
random = torch.Generator().manual_seed(0)
styles = model.generator.styles(torch.randn(4, 7, generator=random))
extremes = torch.stack((styles.amin(dim=0), styles.amax(dim=0)))
edits = Edits.grid(torch.arange(4), torch.arange(styles.shape[1]), 1.0)
found = []
for mode in (None, "default"):
    engine = Engine(model, styles, torch.zeros(4, 3), extremes, batch_size=24, compile=mode)
    found.append(engine.measure(edits))
torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)
assert len(engine._compiled) == 5
assert engine.passes == len(edits) + 4
"""
    arguments = [sys.executable, "-W", "ignore", "-c", program, str(tiny_checkpoint)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
