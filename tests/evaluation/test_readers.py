"""Readers: one trained on three squares reads them, also after a file, and refuses other forms."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from patches import patches

from stylex.artifacts import write_tensors
from stylex.data.drawn import Factor
from stylex.errors import InputError
from stylex.evaluation.readers import (
    Course,
    Reader,
    augment,
    in_units,
    load_reader,
    reading_loss,
    score_reader,
    train_reader,
)
from stylex.imaging import to_uint8
from stylex.progress import quiet

COURSE = Course(
    num_steps=40,
    batch_size=32,
    learning_rate=1e-2,
    width=4,
    noise=0.05,
    brightness=0.01,
    num_scored=200,
    seed=0,
)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return train_reader(patches(), COURSE, quiet)


def test_a_trained_reader_reads_drawings_that_it_never_saw(reader: Reader) -> None:
    assert [each.factor for each in reader.held_out] == ["left", "right", "lamp"]
    assert all(each.score.value > 0.9 for each in reader.held_out)


def test_readings_are_in_the_units_of_the_values(reader: Reader) -> None:
    values = torch.tensor([[0.2, 0.8, 1.0], [0.7, 0.3, 0.0]])
    assert (reader.read(to_uint8(patches().draw(values))) - values).abs().max() < 0.2


def test_reconstructions_that_lose_a_factor_are_read_worse(reader: Reader) -> None:
    def lose_left(images: torch.Tensor) -> torch.Tensor:
        lost = images.clone()
        lost[:, :, :16, :16] = 0
        return lost

    found = {e.factor: e for e in score_reader(reader, patches(), 200, 1, lose_left)}
    assert found["left"].score.value < 0.5
    assert found["right"].score.value > 0.9


def test_a_saved_reader_reads_as_before(reader: Reader, tmp_path: Path) -> None:
    reader.save(tmp_path / "reader.safetensors")
    again = load_reader(tmp_path / "reader.safetensors")
    pixels = to_uint8(patches().draw(patches().sample(6, 3)))
    assert torch.equal(again.read(pixels), reader.read(pixels))
    assert replace(again, network=reader.network) == reader


def test_equal_seeds_train_equal_readers() -> None:
    short = replace(COURSE, num_steps=2, num_scored=8)
    first, again = (train_reader(patches(), short, quiet).network.state_dict() for _ in "ab")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_training_leaves_the_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train_reader(patches(), replace(COURSE, num_steps=1, num_scored=4), quiet)
    assert torch.equal(torch.rand(1), expected)


def test_pixels_of_another_form_are_refused(reader: Reader) -> None:
    with pytest.raises(InputError, match=r"reads images of \(3, 32, 32\), got \(1, 32, 32\)"):
        reader.read(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    write_tensors(path, {"weight": torch.zeros(2)})
    with pytest.raises(InputError, match="must be a file that a reader was saved in"):
        load_reader(path)


def test_a_hidden_factor_costs_nothing() -> None:
    factors = (Factor("size"), Factor("hat", is_binary=True))
    values = torch.tensor([[0.5, 1.0], [0.5, 1.0]])
    wrong = torch.tensor([[9.0, 50.0], [0.0, 50.0]])
    seen = torch.tensor([[False, True], [True, True]])
    assert float(reading_loss(wrong, values, seen, factors)) < 1e-6
    assert float(reading_loss(wrong, values, torch.ones_like(seen), factors)) > 1


def test_outputs_become_spreads_from_the_middle_and_probabilities() -> None:
    factors = (Factor("size"), Factor("hat", is_binary=True))
    found = in_units(torch.tensor([[1.0, 0.0]]), factors)
    assert found.tolist() == [[pytest.approx(0.5 + 12**-0.5), 0.5]]


def test_augmentation_keeps_the_range_and_changes_every_image() -> None:
    images = patches().draw(patches().sample(8, 0))
    changed = augment(images, COURSE, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert float(changed.abs().max()) <= 1
    assert (changed != images).flatten(1).any(dim=1).all()
