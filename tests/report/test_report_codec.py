"""Films as files: their pixels, their times, their captions, their sizes."""

import re
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.sax.saxutils import unescape

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from stylex.errors import InputError
from stylex.report.animations.animation import Film, Style, flicker, sweep
from stylex.report.animations.codec import write_film
from stylex.report.animations.palette import share_palette
from stylex.report.pictures import Pictures, Sweep

CAPTION = "Pullover → Coat · #1 · 外 <&> · strength ×2"


def natural(number: int, channels: int, side: int) -> torch.Tensor:
    """Images with detail of all sizes, as photographs have it."""
    generator = torch.Generator().manual_seed(side)
    total, size = torch.zeros(number, channels, side, side), 4
    while size <= side:
        noise = torch.randn(number, channels, size, size, generator=generator)
        total += F.interpolate(noise, (side, side), mode="bicubic") * (4 / size) ** 0.85
        size *= 2
    return (torch.sigmoid(total) * 255).round().byte()


def edited(channels: int, side: int, number: int = 4, still: tuple[int, ...] = ()) -> Pictures:
    unchanged = natural(number, channels, side)
    changed = unchanged.clone()
    changed[..., side // 4 : side // 2, side // 4 : side // 2] //= 2
    changed[list(still)] = unchanged[list(still)]
    return Pictures(tuple(range(number)), unchanged, changed, (0.1,) * number, (0.8,) * number)


def flicker_of(pictures: Pictures, frame_ms: int = 700) -> Film:
    style = Style("row", inset=False, frame_ms=frame_ms)
    return flicker(pictures, "Pullover → Coat", "#1 · 外 <&> · strength ×2", "Coat", style)


def sweep_of(pictures: Pictures) -> Film:
    positions = tuple(round(-1 + i / 10, 1) for i in range(31))
    gap = pictures.changed.float() - pictures.unchanged
    frames = torch.stack(
        [(pictures.unchanged + p * gap).round().clamp(0, 255).byte() for p in positions], dim=1
    )
    shares = torch.linspace(0, 1, 31)[None, :, None].repeat(len(frames), 1, 2)
    style = Style("row", inset=False, frame_ms=700)
    return sweep(Sweep(pictures.indices, positions, frames, shares), 1, "a → b", "c", "b", style)


def read(path: Path) -> tuple[list[np.ndarray], list[float], dict[Any, Any]]:
    """Frames as RGB, how long they are shown, and the file's facts."""
    frames, durations = [], []
    with Image.open(path) as file:
        facts = dict(file.info)
        for i in range(file.n_frames):
            file.seek(i)
            frames.append(np.array(file.convert("RGB")))
            durations.append(file.info["duration"])
    return frames, durations, facts


def read_video(path: Path, ffmpeg: Any) -> tuple[np.ndarray, str]:
    """Frames as RGB, and what ffmpeg says about them."""
    _, facts = run(ffmpeg, path, "-f", "null")
    found = re.search(r"Video: h264.* (\d+)x(\d+)", facts)
    assert found
    content, _ = run(ffmpeg, path, "-f", "rawvideo", "-pix_fmt", "rgb24")
    width, height = map(int, found.groups())
    return np.frombuffer(content, np.uint8).reshape(-1, height, width, 3), facts


def run(ffmpeg: Any, path: Path, *options: str) -> tuple[bytes, str]:
    command = [ffmpeg.get_ffmpeg_exe(), "-i", str(path), *options, "-"]
    found = subprocess.run(command, capture_output=True, check=True)
    return found.stdout, found.stderr.decode()


def drawn(film: Film) -> list[np.ndarray]:
    return [np.array(frame.convert("RGB")) for frame in film.frames]


@pytest.mark.parametrize("make", [flicker_of, sweep_of])
@pytest.mark.parametrize(
    ("ending", "channels"), [("gif", 1), ("webp", 1), ("webp", 3), ("apng", 1), ("apng", 3)]
)
def test_exact_formats_hold_every_frame_bit_by_bit_and_its_time_for_ever(
    tmp_path: Path, make: Callable[..., Film], ending: str, channels: int
) -> None:
    film = make(edited(channels, 32))
    write_film(tmp_path / f"a.{ending}", film)
    frames, durations, facts = read(tmp_path / f"a.{ending}")
    assert durations == list(film.durations_ms)
    assert facts["loop"] == 0
    assert len(frames) == len(film.frames)
    for found, expected in zip(frames, drawn(film), strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("make", [flicker_of, sweep_of])
def test_a_colour_gif_is_within_the_error_that_it_states(
    tmp_path: Path, make: Callable[..., Film]
) -> None:
    film = make(edited(3, 64))
    shared = share_palette(film.frames)
    write_film(tmp_path / "a.gif", film)
    frames, durations, facts = read(tmp_path / "a.gif")
    assert durations == list(film.durations_ms)
    off = [
        np.abs(found.astype(int) - expected)
        for found, expected in zip(frames, drawn(film), strict=True)
    ]
    unique = [off[i] for i in range(len(set(map(id, film.frames))))]
    assert max(o.max() for o in off) == shared.most_off > 0
    assert float(np.mean([o.mean() for o in unique])) == pytest.approx(shared.mean_off, rel=1e-3)
    stated = facts["comment"].decode()
    assert f"off by at most {shared.most_off} of 255" in stated
    assert f"{shared.mean_off:.1f} on average" in stated


def test_what_does_not_change_does_not_flicker_in_a_colour_gif(tmp_path: Path) -> None:
    film = flicker_of(edited(3, 64, still=(1,)))
    write_film(tmp_path / "a.gif", film)
    (first, second), _, _ = read(tmp_path / "a.gif")
    before, after = drawn(film)
    still = (before == after).all(axis=2)
    assert still.mean() > 0.5
    assert not still.all()
    assert np.array_equal(first[still], second[still])


def test_a_flicker_of_four_images_of_256_px_is_under_1_mb(tmp_path: Path) -> None:
    write_film(tmp_path / "a.gif", flicker_of(edited(3, 256)))
    assert (tmp_path / "a.gif").stat().st_size < 1_000_000


@pytest.mark.parametrize("ending", ["gif", "webp", "apng"])
def test_a_film_describes_itself(tmp_path: Path, ending: str) -> None:
    write_film(tmp_path / f"a.{ending}", flicker_of(edited(1, 32)))
    _, _, facts = read(tmp_path / f"a.{ending}")
    found = {
        "gif": lambda: facts["comment"].decode(),
        "webp": lambda: unescape(facts["xmp"].decode()),
        "apng": lambda: facts["Description"],
    }[ending]()
    assert CAPTION in found


def test_a_gifs_times_are_whole_hundredths_of_a_second(tmp_path: Path) -> None:
    write_film(tmp_path / "a.gif", flicker_of(edited(1, 32), frame_ms=777))
    assert read(tmp_path / "a.gif")[1] == [780, 780]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_mp4_repeats_the_film_at_one_rate_with_even_sides(tmp_path: Path, channels: int) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    film = flicker_of(edited(channels, 32, 1), frame_ms=1000)
    odd = tuple(frame.crop((0, 0, 347, 401)) for frame in film.frames)
    film = Film(odd, film.durations_ms, film.caption)
    write_film(tmp_path / "a.mp4", film)
    seen, facts = read_video(tmp_path / "a.mp4", ffmpeg)
    height, width = seen.shape[1:3]
    assert "yuv420p(" in facts
    assert " 50 fps" in facts
    assert f"comment         : {CAPTION}" in facts
    assert (width % 2, height % 2) == (0, 0)
    assert len(seen) == 8 * 50
    expected = drawn(film)
    rows, columns = expected[0].shape[:2]
    assert 0 <= height - rows < 2
    assert 0 <= width - columns < 2
    for second in range(8):
        picture = seen[second * 50 + 25][:rows, :columns].astype(int)
        off = [np.abs(picture - frame).mean() for frame in expected]
        assert off[second % 2] < 2
        assert off[second % 2] < off[1 - second % 2]


@pytest.mark.parametrize("colour", [(200, 30, 60), (30, 180, 60), (40, 60, 210)])
def test_an_mp4_keeps_strong_colours(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    write_film(tmp_path / "a.mp4", Film((Image.new("RGB", (64, 64), colour),), (1000,), "plain"))
    seen, facts = read_video(tmp_path / "a.mp4", ffmpeg)
    assert "bt709" in facts
    assert np.abs(seen.astype(int) - colour).max() <= 4


def test_an_mp4_without_imageio_ffmpeg_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[video\]'"):
        write_film(tmp_path / "a.mp4", flicker_of(edited(1, 32)))
    assert list(tmp_path.iterdir()) == []


def writes_nothing(*_: object, **__: object) -> Generator[None, bytes, None]:
    while True:
        yield


def breaks(*_: object, **__: object) -> Generator[None, bytes, None]:
    yield
    raise OSError("a broken pipe")


@pytest.mark.parametrize(
    ("writer", "problem"), [(writes_nothing, "wrote nothing"), (breaks, "fails .a broken pipe")]
)
def test_an_ffmpeg_that_does_not_work_is_an_error_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writer: Callable[..., Generator[None, bytes, None]],
    problem: str,
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(write_frames=writer))
    with pytest.raises(InputError, match=rf"got one that {problem}.*; pip install"):
        write_film(tmp_path / "a.mp4", flicker_of(edited(1, 32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.mov", "a", "a.png"])
def test_an_unknown_ending_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"one of .gif, .webp, .apng, .mp4, got '{name}'"):
        write_film(tmp_path / name, flicker_of(edited(1, 32)))
    assert list(tmp_path.iterdir()) == []


def test_a_pixel_takes_the_nearest_colour_of_the_palette() -> None:
    film = flicker_of(edited(3, 32))
    shared = share_palette(film.frames)
    colours = np.array(shared.colours)
    frame = drawn(film)[0].reshape(-1, 3)[::37].astype(int)
    nearest = ((frame[:, None] - colours) ** 2).sum(axis=2)
    chosen = np.array(shared.frames[0]).ravel()[::37]
    assert (nearest[np.arange(len(frame)), chosen] == nearest.min(axis=1)).all()


def test_a_small_spot_of_a_rare_colour_stays_that_colour() -> None:
    noise = natural(1, 3, 256)[0].permute(1, 2, 0).numpy().copy()
    noise[60:62, 60:62] = (250, 10, 200)
    frame = Image.fromarray(noise)
    shared = share_palette([frame])
    assert np.array_equal(np.array(shared.frames[0].convert("RGB"))[61, 61], (250, 10, 200))


def test_few_colours_are_exact_and_white_paper_stays_white() -> None:
    few = Image.fromarray(natural(1, 3, 16)[0].permute(1, 2, 0).numpy()[:10])
    assert share_palette([few]).most_off == 0
    film = flicker_of(edited(3, 64))
    shared = share_palette(film.frames)
    paper = (drawn(film)[0] == 255).all(axis=2)
    assert (np.array(shared.frames[0].convert("RGB"))[paper] == 255).all()
