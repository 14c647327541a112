"""Figures for papers as files: which are written, how wide, with which fonts and pixels."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from stylex.errors import InputError
from stylex.imaging import enlarge
from stylex.report.figures.labels import file_name
from stylex.report.figures.paper import write_figures
from stylex.report.results import Results, read_results

WriteFolder = Callable[..., Path]
Find = Callable[[np.ndarray, np.ndarray], list[tuple[int, int]]]
NAMES = ["image-40", "effects", "dose-response", "intervals", "ladder", "reconstructions"]


def quiet(items: Iterable[Any], what: str) -> Iterable[Any]:
    """No progress bar."""
    return items


def test_every_figure_of_a_search_is_written_in_every_format_and_returned(
    write_folder: WriteFolder, tmp_path: Path
) -> None:
    results = read_results(write_folder())
    written = write_figures(tmp_path, [results], ["png", "pdf"], 2, quiet)
    names = {f"{name}.{ending}" for name in ["attributes", *NAMES] for ending in ("png", "pdf")}
    assert {path.name for path in written} == names
    assert set((tmp_path / "figures").iterdir()) == set(written)


def test_one_image_has_no_intervals(write_folder: WriteFolder, tmp_path: Path) -> None:
    results = read_results(write_folder(is_one_image=True, subset=[2, 1]))
    written = write_figures(tmp_path, [results], ["png"], 1, quiet)
    assert {path.stem for path in written} == {"attributes", "image-7", *NAMES[1:]} - {"intervals"}


def test_figures_of_several_searches_are_told_apart(
    write_folder: WriteFolder, tmp_path: Path
) -> None:
    there = read_results(write_folder(name="there", num_attributes=1))
    back = read_results(write_folder(name="back", source="Coat", target="Pullover"))
    written = write_figures(tmp_path, [there, back, there], ["png"], 1, quiet)
    suffixes = ("pullover-to-coat", "coat-to-pullover", "pullover-to-coat-2")
    expected = [f"{name}-{suffix}" for suffix in suffixes for name in NAMES]
    assert [path.stem for path in written] == ["attributes", *expected]


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("../../etc", "<img src=x>", "etc-to-img-src-x"),
        (None, "Émeu / Ñandú", "others-to-emeu-nandu"),
        ("猫", "$x_1$", "class-to-x-1"),
        ("a" * 300, "b", f"{'a' * 40}-to-b"),
    ],
)
def test_a_file_name_is_safe_whatever_classes_are_called(
    write_folder: WriteFolder, source: str | None, target: str, expected: str
) -> None:
    results = read_results(write_folder(num_attributes=1, unshown=()))
    assert file_name(replace(results, source=source, target=target)) == expected


@pytest.mark.parametrize(("columns", "inches"), [(1, 3.3), (2, 6.9)])
def test_widths_are_exact(
    write_folder: WriteFolder, tmp_path: Path, columns: int, inches: float
) -> None:
    results = read_results(write_folder())
    for path in write_figures(tmp_path, [results], ["png", "pdf"], columns, quiet):
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.width == round(300 * inches)
                assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        else:
            box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", path.read_bytes())
            assert box is not None
            assert float(box[1]) == pytest.approx(72 * inches, abs=1e-3)


def test_fonts_are_embedded_as_truetype(write_folder: WriteFolder, tmp_path: Path) -> None:
    results = read_results(write_folder())
    for path in write_figures(tmp_path, [results], ["pdf"], 2, quiet):
        content = path.read_bytes()
        assert b"/FontFile2" in content
        assert b"/Type3" not in content
        assert content.count(b"/Type /FontDescriptor") == content.count(b"/FontFile2 ")


def test_a_figure_written_twice_is_the_same_and_has_no_date(
    write_folder: WriteFolder, tmp_path: Path
) -> None:
    results = read_results(write_folder(channels=3))
    first = write_figures(tmp_path / "a", [results], ["png", "pdf"], 1, quiet)
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "text.color": "red"}):
        second = write_figures(tmp_path / "b", [results], ["png", "pdf"], 1, quiet)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
        assert b"CreationDate" not in one.read_bytes()
        assert b"Software" not in one.read_bytes()


def test_a_figure_describes_itself_and_leaves_matplotlib_as_it_was(
    write_folder: WriteFolder, tmp_path: Path
) -> None:
    before = dict(matplotlib.rcParams)
    results = read_results(write_folder())
    for path in write_figures(tmp_path, [results], ["png"], 2, quiet):
        with Image.open(path) as picture:
            assert len(picture.info["Description"]) > 40
    assert dict(matplotlib.rcParams) == before


def attributes_png(results: Results, folder: Path) -> np.ndarray:
    """The pixels of the first figure at two columns."""
    path = write_figures(folder, [results], ["png"], 2, lambda items, _: items[:1])[0]
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_pictures_are_exact_but_below_the_probability(
    write_folder: WriteFolder, tmp_path: Path, find: Find, channels: int
) -> None:
    results = read_results(write_folder(channels=channels))
    page = attributes_png(results, tmp_path)
    pictures = results.attributes[0].pictures
    assert pictures is not None
    for image in (*pictures.unchanged[:2], *pictures.changed[:2]):
        block = enlarge(image, 7).expand(3, -1, -1).permute(1, 2, 0).numpy()
        assert len(find(page, block[28:])) == 1  # below the box with the number


def test_pictures_larger_than_printed_are_the_same_whatever_else_is_written(
    write_folder: WriteFolder, tmp_path: Path
) -> None:
    results = read_results(write_folder(size_px=512, num_attributes=1, unshown=()))
    (alone,) = write_figures(tmp_path / "a", [results], ["png"], 1, lambda items, _: items[:1])
    _, second = write_figures(
        tmp_path / "b", [results], ["pdf", "png"], 1, lambda items, _: items[:1]
    )
    assert alone.read_bytes() == second.read_bytes()


def test_a_column_shows_the_given_name(write_folder: WriteFolder, tmp_path: Path) -> None:
    folder = write_folder()
    unnamed = attributes_png(read_results(folder), tmp_path / "a")
    key = read_results(folder).attributes[0].key
    (folder / "names.json").write_text(json.dumps({key: "short sleeves"}))
    named = attributes_png(read_results(folder), tmp_path / "b")
    assert unnamed.shape == named.shape
    assert (unnamed != named).any()


def test_what_cannot_be_drawn_is_refused(write_folder: WriteFolder, tmp_path: Path) -> None:
    results = read_results(write_folder(num_attributes=1, unshown=()))
    with pytest.raises(InputError, match="columns of figures must be 1 .* or 2 .*, got 3"):
        write_figures(tmp_path, [results], ["png"], 3, quiet)
    with pytest.raises(InputError, match="formats of figures must be among png, pdf, got 'svg'"):
        write_figures(tmp_path, [results], ["png", "svg"], 1, quiet)
    assert not (tmp_path / "figures").exists()
