"""Films of one edit: what is drawn, where, and for how long."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from stylex.errors import InputError
from stylex.imaging import enlarge
from stylex.report.animations.animation import Film, Style, flicker, sweep
from stylex.report.animations.canvas import probability_box, probability_tag, text_width, wrap
from stylex.report.pictures import Pictures, Sweep

Find = Callable[[np.ndarray, np.ndarray], list[tuple[int, int]]]
PLAIN = Style("row", inset=False, frame_ms=700)


def edited(
    number: int = 4, channels: int = 1, side: int = 32, still: tuple[int, ...] = ()
) -> Pictures:
    """Random images of which a square changes, but not in those that keep still."""
    generator = torch.Generator().manual_seed(channels + side)
    shape = (number, channels, side, side)
    unchanged = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    changed = unchanged.clone()
    changed[..., side // 4 : side // 2, side // 4 : side // 2] ^= 85
    changed[list(still)] = unchanged[list(still)]
    before = tuple(0.1 + 0.1 * i for i in range(number))
    after = tuple(b if i in still else b + 0.4 for i, b in enumerate(before))
    return Pictures(tuple(range(number)), unchanged, changed, before, after)


def swept(pictures: Pictures, num_positions: int = 31) -> Sweep:
    """A fade between the images and beyond, with the probabilities of two classes."""
    positions = tuple(round(-1 + 3 * i / (num_positions - 1), 3) for i in range(num_positions))
    frames = torch.stack(
        [
            torch.where(torch.tensor(p > 0.5), pictures.changed, pictures.unchanged)
            for p in positions
        ],
        dim=1,
    )
    share = torch.linspace(0, 1, num_positions).repeat(len(frames), 1)
    return Sweep(pictures.indices, positions, frames, torch.stack((1 - share, share), dim=2))


def film_of(pictures: Pictures, style: Style = PLAIN) -> Film:
    return flicker(pictures, "Pullover → Coat", "#1 · 32px conv1 #4 · strength ×2", "Coat", style)


def sweep_of(pictures: Pictures, style: Style = PLAIN) -> Film:
    return sweep(swept(pictures), 1, "Pullover → Coat", "#1 · strength ×2", "Coat", style)


def pixels(frame: Image.Image) -> np.ndarray:
    return np.array(frame.convert("RGB"))


def tile_of(picture: torch.Tensor, side: int) -> np.ndarray:
    """An image as it is drawn."""
    drawn = enlarge(picture, side // picture.shape[-1]).expand(3, -1, -1)
    return drawn.permute(1, 2, 0).numpy()


def place_of(find: Find, frame: np.ndarray, tile: np.ndarray) -> tuple[int, int]:
    """Left top corner of an image, found by its lower half."""
    half = len(tile) // 2
    found = find(frame, tile[half:])
    assert len(found) == 1
    return found[0][0] - half, found[0][1]


@pytest.mark.parametrize("frame_ms", [600, 750, 1000])
def test_a_flicker_has_two_frames_of_the_time_asked_for(frame_ms: int) -> None:
    film = film_of(edited(), Style("row", inset=False, frame_ms=frame_ms))
    assert film.durations_ms == (frame_ms, frame_ms)
    assert len(film.frames) == 2


@pytest.mark.parametrize("frame_ms", [0, 599, 1001])
def test_a_flicker_outside_600_to_1000_ms_is_refused(frame_ms: int) -> None:
    with pytest.raises(InputError, match=f"from 600 to 1000 milliseconds, got {frame_ms}"):
        Style("row", inset=False, frame_ms=frame_ms)


def test_another_layout_is_refused() -> None:
    with pytest.raises(InputError, match="must be row or square, got 'round'"):
        Style("round", inset=False, frame_ms=700)


def test_a_sweep_goes_there_and_back_without_doubling_its_ends_and_rests_in_three_places() -> None:
    film = sweep_of(edited())
    assert len(film.frames) == 31 + 29
    for i in range(1, 30):
        assert film.frames[60 - i].tobytes() == film.frames[i].tobytes()
    assert len({frame.tobytes() for frame in film.frames}) == 31
    pauses = [i for i, ms in enumerate(film.durations_ms) if ms == 500]
    assert pauses == [0, 10, 30, 50]
    assert {ms for i, ms in enumerate(film.durations_ms) if i not in pauses} == {60}


@pytest.mark.parametrize(
    ("channels", "side", "drawn", "number"),
    [(1, 32, 160, 4), (3, 64, 128, 3), (1, 256, 256, 2), (1, 32, 320, 1), (3, 128, 256, 1)],
)
def test_every_image_is_exact_outside_the_box_of_its_probability(
    find: Find, channels: int, side: int, drawn: int, number: int
) -> None:
    pictures = edited(number, channels, side)
    width, height = probability_box(drawn)
    for frame, images in zip(
        film_of(pictures).frames, (pictures.unchanged, pictures.changed), strict=True
    ):
        found = pixels(frame)
        for image in images:
            tile = tile_of(image, drawn)
            y, x = place_of(find, found, tile)
            off = (found[y : y + drawn, x : x + drawn] != tile).any(axis=2)
            off[:height, :width] = False
            assert not off.any()


def test_every_frame_of_a_sweep_holds_its_images_and_its_probabilities(find: Find) -> None:
    pictures = edited(2)
    found = swept(pictures)
    width, height = probability_box(160)
    for i, frame in enumerate(sweep_of(pictures).frames[:31]):
        drawn = pixels(frame)
        for j in range(2):
            y, x = place_of(find, drawn, tile_of(found.frames[j, i], 160))
            box = drawn[y : y + height, x : x + width]
            assert np.array_equal(box, tag_of(float(found.probabilities[j, i, 1]), 160))


def tag_of(probability: float, side: int) -> np.ndarray:
    """The box of a probability, drawn alone."""
    ground = Image.new("RGB", probability_box(side), "blue")
    probability_tag(ImageDraw.Draw(ground), (0, 0), probability, side)
    return np.array(ground)


@pytest.mark.parametrize("side", [32, 256])
def test_the_number_in_the_corner_is_the_stored_probability_and_no_other(
    find: Find, side: int
) -> None:
    pictures = edited(3, side=side)
    drawn = {32: 160, 256: 256}[side]
    width, height = probability_box(drawn)
    for frame, images, shares in zip(
        film_of(pictures).frames,
        (pictures.unchanged, pictures.changed),
        (pictures.before, pictures.after),
        strict=True,
    ):
        for image, share in zip(images, shares, strict=True):
            y, x = place_of(find, pixels(frame), tile_of(image, drawn))
            box = pixels(frame)[y : y + height, x : x + width]
            assert np.array_equal(box, tag_of(share, drawn))
            assert not np.array_equal(box, tag_of(share + 0.01, drawn))


def test_the_bar_above_an_image_is_as_long_as_its_probability(find: Find) -> None:
    pictures = edited(2)
    for frame, shares in zip(
        film_of(pictures).frames, (pictures.before, pictures.after), strict=True
    ):
        drawn = pixels(frame)
        for image, share in zip(
            pictures.unchanged if shares is pictures.before else pictures.changed,
            shares,
            strict=True,
        ):
            y, x = place_of(find, drawn, tile_of(image, 160))
            row = next(r for r in drawn[y - 1 :: -1, x : x + 160, 0] if (r != 255).all())
            assert (row < 100).sum() == round(share * 160)


def test_an_edit_of_strength_0_gives_frames_that_differ_in_their_word_alone(find: Find) -> None:
    pictures = edited(4, still=(0, 1, 2, 3))
    first, second = map(pixels, film_of(pictures).frames)
    y, _ = place_of(find, first, tile_of(pictures.unchanged[0], 160))
    differs = np.argwhere((first != second).any(axis=2))
    assert len(differs)
    assert differs[:, 0].max() < y
    still = swept(pictures)
    frames = sweep_of(pictures).frames
    assert torch.equal(still.frames[:, 0], still.frames[:, 30])
    y, x = place_of(find, pixels(frames[0]), tile_of(pictures.unchanged[0], 160))
    below = y + probability_box(160)[1]
    assert all(np.array_equal(pixels(f)[below:], pixels(frames[0])[below:]) for f in frames)


@pytest.mark.parametrize("inset", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_panel_that_was_not_edited_is_the_same_in_both_frames(
    find: Find, channels: int, inset: bool
) -> None:
    pictures = edited(3, channels, still=(1,))
    first, second = map(pixels, film_of(pictures, Style("row", inset, 600)).frames)
    plain = pixels(film_of(pictures).frames[0])  # whose images stand in the same places
    for i, is_still in enumerate((False, True, False)):
        y, x = place_of(find, plain, tile_of(pictures.unchanged[i], 160))
        panel = slice(y - 8, None), slice(x, x + 160)  # with its bar and its inset
        assert np.array_equal(first[panel], second[panel]) == is_still


@pytest.mark.parametrize("make", [film_of, sweep_of])
def test_nothing_jumps_between_frames(find: Find, make: Callable[..., Film]) -> None:
    pictures = edited(4)
    frames = make(pictures, Style("square", inset=False, frame_ms=600)).frames
    assert len({frame.size for frame in frames}) == 1
    states = (pictures.unchanged, pictures.changed)
    places = []
    for frame in frames:
        drawn = pixels(frame)
        found = [s for s in states if len(find(drawn, tile_of(s[0], 160)[80:])) == 1]
        places.append([place_of(find, drawn, tile_of(p, 160)) for p in found[0]])
    assert all(p == places[0] for p in places)


def test_a_row_has_one_line_of_images_and_a_square_of_four_has_two(find: Find) -> None:
    pictures = edited(4)
    for layout, rows, columns in (("row", 1, 4), ("square", 2, 2)):
        film = film_of(pictures, Style(layout, inset=False, frame_ms=600))
        places = [
            place_of(find, pixels(film.frames[0]), tile_of(p, 160)) for p in pictures.unchanged
        ]
        assert len({y for y, _ in places}) == rows
        assert len({x for _, x in places}) == columns
        assert places == sorted(places)


NAMES = [
    "Yellow-bellied Flycatcher of the Western Highlands",
    "外套与一个非常长的名字" * 6,
    "W" * 5000,
    "line\nbreak\x00 and \u202e reversed",
    "",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [1, 4])
def test_no_name_breaks_the_layout(find: Find, name: str, number: int) -> None:
    pictures = edited(number)
    film = flicker(pictures, f"{name} → {name}", f"“{name}” · #1 · {name}", name, PLAIN)
    plain = film_of(pictures)
    side = 320 if number == 1 else 160
    assert film.frames[0].width == plain.frames[0].width
    assert film.frames[0].height <= plain.frames[0].height + 150
    for frame in film.frames:
        drawn = pixels(frame)
        assert (drawn[:, :10] == 255).all()
        assert (drawn[:, -10:] == 255).all()
        assert (drawn[-3:] == 255).all()
    place_of(find, pixels(film.frames[0]), tile_of(pictures.unchanged[0], side))
    assert "\x00" not in film.caption


def test_a_text_of_many_lines_ends_where_it_must_and_says_so() -> None:
    lines = wrap("word " * 100, 14, 200, most=3)
    assert len(lines) == 3
    assert lines[-1].endswith("...")
    assert all(text_width(line, 14) <= 200 for line in lines)


def test_the_knobs_dot_moves_right_with_the_position() -> None:
    frames = [pixels(f)[..., 0].astype(int) for f in sweep_of(edited(1, still=(0,))).frames[:31]]
    height = next(i for i, row in enumerate((frames[0] != frames[30]).any(axis=1)) if row)
    line = slice(height, height + 12)
    dots = []
    for frame in frames:
        dark = np.argwhere((frame[line] < 40).sum(axis=0) >= 6).ravel()
        dots.append(float(dark.mean()))
    assert all(b - a > 3 for a, b in zip(dots, dots[1:], strict=False))
