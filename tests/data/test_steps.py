"""Laws of `stylex.data.steps`."""

import pytest

from stylex.data.steps import StepBatches
from stylex.errors import InputError


def batches(start: int, stop: int, *, seed: int = 0, num_images: int = 11) -> list[list[int]]:
    return list(
        StepBatches(
            num_images=num_images, batch_size=4, seed=seed, start_step=start, stop_step=stop
        )
    )


@pytest.mark.parametrize("start", [0, 1, 2, 7, 12])
def test_a_resumed_run_sees_the_batches_of_an_unbroken_one(start: int) -> None:
    assert batches(start, 12) == batches(0, 12)[start:]


def test_no_image_comes_twice_in_an_epoch_and_the_incomplete_batch_is_dropped() -> None:
    for epoch in range(5):
        first, second = batches(2 * epoch, 2 * epoch + 2)
        assert len(first) == len(second) == 4
        assert len({*first, *second}) == 8
        assert {*first, *second} <= set(range(11))


def test_an_epoch_of_whole_batches_holds_every_image_once() -> None:
    for epoch in range(3):
        drawn = sum(batches(3 * epoch, 3 * epoch + 3, num_images=12), [])
        assert sorted(drawn) == list(range(12))


def test_every_image_is_drawn_equally_often_in_the_long_run() -> None:
    counts = [0] * 11
    for batch in batches(0, 4000):
        for index in batch:
            counts[index] += 1
    expected = 4000 * 4 / 11  # 2000 epochs, each draws an image with probability 8/11
    deviation = (2000 * 8 / 11 * 3 / 11) ** 0.5
    assert all(abs(count - expected) < 4 * deviation for count in counts)


def test_epochs_and_seeds_differ() -> None:
    orders = [
        tuple(sum(batches(2 * epoch, 2 * epoch + 2, seed=seed), []))
        for seed in (-1, 0, 1, 2**40)
        for epoch in range(4)
    ]
    assert len(set(orders)) == len(orders)


def test_a_second_pass_gives_the_same_batches() -> None:
    steps = StepBatches(num_images=11, batch_size=4, seed=3, start_step=1, stop_step=9)
    assert list(steps) == list(steps)


def test_length_is_the_number_of_steps() -> None:
    steps = StepBatches(num_images=11, batch_size=4, seed=3, start_step=3, stop_step=9)
    assert len(steps) == len(list(steps)) == 6
    assert batches(5, 5) == []


def test_fewer_images_than_a_batch_are_refused() -> None:
    law = r"not exceed the number of training images \(3\), got 4: lower it or add images"
    with pytest.raises(InputError, match=law):
        batches(0, 1, num_images=3)


def test_empty_batches_are_refused() -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        StepBatches(num_images=3, batch_size=0, seed=0, start_step=0, stop_step=1)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3)])
def test_steps_run_forward_from_zero(start: int, stop: int) -> None:
    law = f"from 0 to stop_step, got start_step {start} and stop_step {stop}"
    with pytest.raises(ValueError, match=law):
        batches(start, stop)
