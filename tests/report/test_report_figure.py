"""The still pictures: exact images, honest differences, legible captions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from stylex.imaging import enlarge
from stylex.report import wording
from stylex.report.canvas import cut, text_width, to_pillow, wrap, write
from stylex.report.figure import DECREASE, INCREASE, difference, difference_map, write_strip
from stylex.report.results import Pictures, read_results

WriteFolder = Callable[..., Path]
Find = Callable[[np.ndarray, np.ndarray], list[tuple[int, int]]]


def pictures_of(unchanged: torch.Tensor, changed: torch.Tensor) -> Pictures:
    """One pair without meaningful probabilities."""
    return Pictures((0,), unchanged, changed, (0.1,), (0.9,))


def test_a_difference_is_changed_minus_original_beyond_8_bits() -> None:
    dark, light = torch.zeros(1, 1, 4, 4).byte(), torch.full((1, 1, 4, 4), 255).byte()
    assert (difference(pictures_of(dark, light)) == 255).all()
    assert (difference(pictures_of(light, dark)) == -255).all()


def test_a_colour_difference_is_that_of_the_channel_that_changes_most() -> None:
    unchanged = torch.full((1, 3, 2, 2), 100).byte()
    changed = unchanged.clone()
    changed[:, 0] += 10
    changed[:, 2] -= 30
    assert (difference(pictures_of(unchanged, changed)) == -30).all()


def test_a_difference_map_is_white_for_none_and_reaches_its_colours_at_the_scale() -> None:
    change = torch.tensor([[[0, 50, -50, 25]]], dtype=torch.int16)
    colours = difference_map(change, 50)[0, :, 0].t().tolist()
    half = [round((255 + c) / 2) for c in INCREASE]
    assert colours == [[255, 255, 255], list(INCREASE), list(DECREASE), half]


@pytest.mark.parametrize(("channels", "size_px", "factor"), [(1, 32, 5), (3, 64, 2)])
def test_a_strip_shows_every_image_exactly_and_white_where_nothing_changed(
    write_folder: WriteFolder,
    find: Find,
    tmp_path: Path,
    channels: int,
    size_px: int,
    factor: int,
) -> None:
    results = read_results(write_folder(channels=channels, size_px=size_px, num_shown=3))
    pictures = results.attributes[0].pictures
    assert pictures is not None
    write_strip(tmp_path / "a.png", pictures, "Coat", "caption", "finding")
    with Image.open(tmp_path / "a.png") as file:
        strip = np.array(file)
    side = size_px * factor
    places = []
    for images in (pictures.unchanged, pictures.changed):
        for image in images:
            tile = enlarge(image, factor).expand(3, -1, -1).permute(1, 2, 0).numpy()
            places += find(strip, tile[side // 2 :])
    assert len(places) == 6
    assert len({y for y, _ in places}) == 2
    assert len({x for _, x in places}) == 3
    top, left = 2 * places[3][0] - places[0][0] - side // 2, places[0][1]  # of the differences
    quarter = side // 4
    corner = strip[top + 1 : top + quarter, left + 1 : left + quarter]
    middle = strip[top + quarter : top + 3 * quarter, left + quarter : left + 3 * quarter]
    assert (corner == 255).all()
    assert (middle != 255).any(axis=2).mean() > 0.9


def test_a_strip_describes_itself_with_strength_effect_and_flips(
    write_folder: WriteFolder, tmp_path: Path
) -> None:
    results = read_results(write_folder())
    attribute = results.attributes[0]
    assert attribute.pictures is not None
    caption = wording.attribute_caption(results, attribute)
    finding = wording.attribute_finding(results, attribute)
    write_strip(tmp_path / "a.png", attribute.pictures, results.target, caption, finding)
    with Image.open(tmp_path / "a.png") as file:
        description = file.info["Description"]
    for part in (
        "strength ×2.5",
        "+1.39 logits",
        "95% interval +1.3",
        "25% (6 of 24",
        "strength ×1 on 24",
    ):
        assert part in description


def test_large_images_are_not_enlarged_and_reduced_only_where_asked() -> None:
    picture = torch.zeros(1, 256, 256).byte()
    assert to_pillow(picture, 256).size == (256, 256)
    assert to_pillow(picture, 128).size == (128, 128)
    assert to_pillow(picture[:, :48, :48], 160).size == (144, 144)


def test_no_line_of_a_caption_is_wider_than_its_place_and_no_word_is_lost() -> None:
    caption = "Pullover → Coat · #1 · 16px conv0 #12 → largest · a class of many words in a row"
    for width in (120, 200, 400, 2000):
        lines = wrap(caption, 16, width)
        assert all(text_width(line, 16) <= width for line in lines)
        assert " ".join(lines).replace(" · ", " ") == caption.replace(" · ", " ")
    assert len(wrap(caption, 16, 2000)) == 1


def test_a_word_that_is_too_long_is_cut_and_says_so() -> None:
    short = cut("W" * 80, 16, 200)
    assert short.endswith("...")
    assert text_width(short, 16) <= 200


def drawn(text: str) -> bytes:
    """The pixels of a written text."""
    picture = Image.new("L", (200, 30))
    write(ImageDraw.Draw(picture), (2, 2), text, 16, "white")
    return picture.tobytes()


@pytest.mark.parametrize("text", ["ü", "É", "×", "−", "–", "→"])
def test_letters_that_pillows_font_lacks_do_not_become_boxes(text: str) -> None:
    assert drawn(text) not in (drawn("\uffff"), drawn(""))
    assert text_width(text, 16) > 0
