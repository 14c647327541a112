"""Insets: the region that changes most, magnified beside its image."""

import numpy as np
import pytest
import torch

from stylex.report.animations.animation import Style, flicker
from stylex.report.animations.inset import find_region
from stylex.report.animations.stage import Words, build_stage
from stylex.report.pictures import Pictures


def frames_with(side: int, top: int, left: int, size: int, channels: int = 1) -> torch.Tensor:
    """An image and its edit, which changes one square."""
    generator = torch.Generator().manual_seed(side)
    before = torch.randint(100, (channels, side, side), generator=generator).byte()
    after = before.clone()
    after[:, top : top + size, left : left + size] += 90
    return torch.stack((before, after))


@pytest.mark.parametrize(("top", "left"), [(0, 0), (5, 17), (24, 24), (24, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_region_is_the_square_of_a_quarter_of_the_side_that_changes_most(
    top: int, left: int, channels: int
) -> None:
    frames = frames_with(32, top, left, 8, channels)
    frames[1, :, 20, 12] += 3  # less
    region = find_region(frames, 0)
    assert region is not None
    assert (region.top, region.left, region.side) == (top, left, 8)


def test_the_region_is_that_of_a_slow_search_over_every_square_and_frame() -> None:
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(256, (5, 3, 20, 20), generator=generator).byte()
    change = (frames.int() - frames[2].int()).abs().sum(dim=(0, 1)).numpy()
    sums = {(y, x): change[y : y + 5, x : x + 5].sum() for y in range(16) for x in range(16)}
    region = find_region(frames, 2)
    assert region is not None
    assert (region.top, region.left) == max(sums, key=lambda place: sums[place])


def test_an_image_that_does_not_change_has_no_region() -> None:
    frames = frames_with(32, 0, 0, 8)
    assert find_region(frames[:1].repeat(3, 1, 1, 1), 1) is None


@pytest.mark.parametrize(("is_square", "number"), [(False, 4), (True, 4), (False, 1)])
@pytest.mark.parametrize(("side", "factor"), [(32, 5), (256, 1)])
def test_region_and_copy_are_free_and_lines_lie_between_them(
    is_square: bool, number: int, side: int, factor: int
) -> None:
    factor *= 2 if number == 1 and side == 32 else 1
    frames = torch.stack(
        [frames_with(side, side // 8 * (i + 1), side // 2, side // 4) for i in range(number)]
    )
    style = Style("square" if is_square else "row", inset=True, frame_ms=600)
    shares = (0.5,) * number
    pictures = Pictures(tuple(range(number)), frames[:, 0], frames[:, 1], shares, shares)
    film = flicker(pictures, "a → b", "c", "b", style)
    stage = build_stage(
        frames, 0, Words("a → b", "c", "b"), 1.0, is_square=is_square, has_inset=True
    )
    for i, (inset, (x, y)) in enumerate(zip(stage.insets, stage.places, strict=True)):
        region = inset.region
        assert region is not None
        here = (
            slice(region.top, region.top + region.side),
            slice(region.left, region.left + region.side),
        )
        for state in (0, 1):
            drawn = np.array(film.frames[state])
            tile = frames[i, state, 0].numpy().repeat(factor, 0).repeat(factor, 1)
            panel = drawn[y : y + len(tile), x : x + len(tile)]
            off = panel != tile
            box = (
                slice(here[0].start * factor, here[0].stop * factor),
                slice(here[1].start * factor, here[1].stop * factor),
            )
            assert not off[box].any()
            off[box[0].start - 2 : box[0].stop + 2, box[1].start - 2 : box[1].stop + 2] = False
            off[: len(tile) // 5, : len(tile) // 2] = False  # the probability
            if inset.place[1] > y:
                assert not off[: box[0].start].any()
            else:
                assert not off[:, : box[1].start].any()
            assert off.any()  # the lines
            if side == 32:
                copy = drawn[inset.place[1] :, inset.place[0] :][: inset.side, : inset.side]
                zoom = inset.side // region.side
                part = frames[i, state, 0].numpy()[here].repeat(zoom, 0).repeat(zoom, 1)
                assert np.array_equal(copy, part)


def test_a_copy_of_a_large_image_has_the_regions_brightness() -> None:
    frames = frames_with(256, 64, 64, 64)
    region = find_region(frames, 0)
    assert region is not None
    copy = np.array(region.crop(frames[1], 256))
    assert copy.shape == (256, 256)
    assert abs(copy.mean() - frames[1, 0, 64:128, 64:128].double().mean()) < 1


def test_no_image_and_no_copy_hides_another() -> None:
    frames = frames_with(32, 8, 8, 8)[None]
    for is_square in (False, True):
        stage = build_stage(
            frames.repeat(4, 1, 1, 1, 1),
            0,
            Words("", "", ""),
            1.0,
            is_square=is_square,
            has_inset=True,
        )
        boxes = [(x, y) for x, y in stage.places] + [inset.place for inset in stage.insets]
        for i, (x, y) in enumerate(boxes):
            for u, v in boxes[i + 1 :]:
                assert abs(x - u) >= stage.grid.side or abs(y - v) >= stage.grid.side
