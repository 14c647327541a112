"""The flickering GIFs: their timing, their pixels, their captions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stylex.imaging import enlarge
from stylex.report import wording
from stylex.report.animation import draw_frame, write_animation
from stylex.report.results import Results, read_results

WriteFolder = Callable[..., Path]
Find = Callable[[np.ndarray, np.ndarray], list[tuple[int, int]]]
Frames = tuple[np.ndarray, np.ndarray]


def write_first(results: Results, path: Path) -> Frames:
    """Writes the first attribute's GIF and reads both frames as RGB."""
    attribute = results.attributes[0]
    assert attribute.pictures is not None
    caption = wording.attribute_caption(results, attribute)
    write_animation(path, attribute.pictures, results.target, caption)
    with Image.open(path) as file:
        frames = []
        for i in range(2):
            file.seek(i)
            frames.append(np.array(file.convert("RGB")))
    return frames[0], frames[1]


def lower_half(image: np.ndarray) -> np.ndarray:
    """What no probability covers."""
    return image[image.shape[0] // 2 :]


@pytest.mark.parametrize(("channels", "size_px"), [(1, 32), (1, 64), (3, 32), (3, 64)])
def test_a_gif_has_two_frames_of_600_ms_and_loops_for_ever(
    write_folder: WriteFolder, tmp_path: Path, channels: int, size_px: int
) -> None:
    results = read_results(write_folder(channels=channels, size_px=size_px))
    write_first(results, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as file:
        durations = []
        for i in range(file.n_frames):
            file.seek(i)
            durations.append(file.info["duration"])
        assert durations == [600, 600]
        assert file.info["loop"] == 0


@pytest.mark.parametrize(("size_px", "factor"), [(32, 5), (64, 2), (256, 1)])
def test_grey_frames_hold_the_enlarged_images_without_any_error(
    write_folder: WriteFolder, find: Find, tmp_path: Path, size_px: int, factor: int
) -> None:
    results = read_results(write_folder(channels=1, size_px=size_px))
    frames = write_first(results, tmp_path / "a.gif")
    pictures = results.attributes[0].pictures
    assert pictures is not None
    for frame, images in zip(frames, (pictures.unchanged, pictures.changed), strict=True):
        for image in images:
            tile = enlarge(image, factor).expand(3, -1, -1).permute(1, 2, 0).numpy()
            assert find(frame, lower_half(tile))


def test_colour_frames_are_near_and_flicker_only_where_something_changes(
    write_folder: WriteFolder, find: Find, tmp_path: Path
) -> None:
    results = read_results(write_folder(channels=3, size_px=64))
    first, second = write_first(results, tmp_path / "a.gif")
    pictures = results.attributes[0].pictures
    assert pictures is not None
    caption = wording.attribute_caption(results, results.attributes[0])
    exact = [
        np.array(draw_frame(list(images), shares, results.target, caption, is_changed=changed))
        for images, shares, changed in (
            (pictures.unchanged, pictures.before, False),
            (pictures.changed, pictures.after, True),
        )
    ]
    tile = enlarge(pictures.changed[0], 2).permute(1, 2, 0).numpy()
    assert find(exact[1], lower_half(tile))
    for seen, drawn in zip((first, second), exact, strict=True):
        error = np.abs(seen.astype(int) - drawn.astype(int))
        assert error.mean() < 12  # white noise of all colours in 256 of them, the hardest case
    still = (exact[0] == exact[1]).all(axis=2)
    assert np.array_equal(first[still], second[still])


def test_one_image_is_enlarged_more_and_its_caption_fits(
    write_folder: WriteFolder, find: Find, tmp_path: Path
) -> None:
    results = read_results(write_folder(is_one_image=True))
    first, _ = write_first(results, tmp_path / "a.gif")
    pictures = results.attributes[0].pictures
    assert pictures is not None
    tile = enlarge(pictures.unchanged[0], 10).expand(3, -1, -1).permute(1, 2, 0).numpy()
    assert find(first, lower_half(tile))
    assert (first[:, -5:] == 255).all()


def test_the_comment_states_classes_coordinate_and_strength(
    write_folder: WriteFolder, tmp_path: Path
) -> None:
    write_first(read_results(write_folder()), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as file:
        comment = file.info["comment"].decode()
    assert comment == "Pullover → Coat · #1 · 16px conv1 #61 → largest · strength ×2.5"
