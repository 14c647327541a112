"""Laws of `stylex.data.cache`: whole or not there, of the images as they are, each decoded once."""

import json
import multiprocessing
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pictured_folders import folder, many, write

from stylex.data import cache as module
from stylex.data import reading
from stylex.data.cache import PixelCache, cached
from stylex.data.sources import Folder
from stylex.errors import InputError
from stylex.imaging import read_image

NAMES = many(4, "a", "b")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "root", NAMES)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded."""
    names: list[str] = []
    real = module.decode_image

    def spy(content: bytes, name: str, *form: int) -> torch.Tensor:
        names.append(name)
        return real(content, name, *form)

    monkeypatch.setattr(module, "decode_image", spy)
    return names


def opened(root: Path, kept: Path, resolution: int = 32) -> PixelCache:
    return cached(Folder(root), resolution, 1, kept)


def entry_of(kept: Path) -> Path:
    (entry,) = kept.iterdir()
    return entry


def test_every_image_is_decoded_once_for_each_form(
    root: Path, kept: Path, decoded: list[str]
) -> None:
    for resolution in (32, 64):
        for _ in range(3):
            opened(root, kept, resolution)
    assert sorted(decoded) == sorted(NAMES * 2)
    pixels = opened(root, kept, 64).rows(torch.arange(8))
    expected = [read_image(root / name, 64, 1) for name in sorted(NAMES)]
    assert torch.equal(pixels, torch.stack(expected))


def test_caches_lie_among_the_users_unless_told_otherwise(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    folder(root)
    assert len(list((tmp_path / "xdg" / "stylex").iterdir())) == 1
    folder(root, cache=tmp_path / "mine")
    assert len(list((tmp_path / "mine").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder(root)
    assert len(list((tmp_path / "home" / ".cache" / "stylex").iterdir())) == 1


@pytest.mark.parametrize("change", ["content", "new", "gone", "renamed", "touched"])
def test_a_changed_source_is_decoded_anew_and_that_is_said(
    change: str, root: Path, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(root, kept)
    path = root / NAMES[0]
    if change == "content":
        path.write_bytes((root / NAMES[1]).read_bytes())
    elif change == "new":
        write(root, ["a/new.png"])
    elif change == "gone":
        path.unlink()
    elif change == "renamed":
        path.rename(path.with_name("zzz.png"))
    else:
        os.utime(path, ns=(0, 12345))
    with caplog.at_level("INFO", "stylex"):
        found = opened(root, kept)
        opened(root, kept)
    assert [text for text in caplog.messages if "made anew" in text] == [
        f"the cache of {root} is made anew: the images have changed"
    ]
    names = sorted(member.name for member in Folder(root).members)
    expected = torch.stack([read_image(root / name, 32, 1) for name in names])
    assert torch.equal(found.rows(torch.arange(len(names))), expected)
    assert len(list(entry_of(kept).glob("pixels-*"))) == 1


@pytest.mark.parametrize("fault", ["short", "long", "gone", "index", "checksum", "json", "empty"])
def test_an_entry_that_is_not_whole_is_made_anew(
    fault: str, root: Path, kept: Path, decoded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    opened(root, kept)
    entry = entry_of(kept)
    (pixels,) = entry.glob("pixels-*")
    index = entry / "index.json"
    if fault in ("short", "long"):
        content = pixels.read_bytes()
        pixels.write_bytes(content[:-1] if fault == "short" else content + b"0")
    elif fault == "gone":
        pixels.unlink()
    elif fault == "index":
        index.unlink()
    elif fault == "checksum":
        facts = json.loads(index.read_text())
        facts["facts"]["faults"] = {"0": "no"}
        index.write_text(json.dumps(facts))
    else:
        index.write_text("{" if fault == "json" else "[]")
    with caplog.at_level("INFO", "stylex"):
        assert not opened(root, kept).faults
    assert len(decoded) == 2 * len(NAMES)
    assert sum("made anew" in text for text in caplog.messages) == (fault != "index")


def test_pixels_that_were_damaged_are_refused_where_they_are_read(root: Path, kept: Path) -> None:
    opened(root, kept)
    (pixels,) = entry_of(kept).glob("pixels-*")
    content = bytearray(pixels.read_bytes())
    content[3 * 32 * 32 + 5] ^= 1  # one bit of the fourth image
    pixels.write_bytes(content)
    found = opened(root, kept)
    found.rows(torch.tensor([0, 1, 2, 4]))
    for cache in (found, pickle.loads(pickle.dumps(found))):
        with pytest.raises(InputError, match=r"got other pixels in row 3 of .*; remove that file"):
            cache.rows(torch.tensor([1, 3]))
    pixels.unlink()
    opened(root, kept).rows(torch.arange(len(NAMES)))


def test_a_file_that_could_not_be_read_is_tried_again(
    root: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fails = Folder.read, [True]

    def read(self: Folder, position: int) -> bytes:
        if position == 3 and fails:
            raise PermissionError(13, "Permission denied")
        return real(self, position)

    monkeypatch.setattr(Folder, "read", read)
    assert opened(root, kept).faults == {3: "Permission denied"}
    with pytest.raises(InputError, match=r"a/003.png \(Permission denied\): replace or remove it"):
        folder(root, cache=kept)
    fails.clear()
    assert opened(root, kept).faults == {}


def test_a_copy_in_another_process_maps_the_same_file(root: Path, kept: Path) -> None:
    found = opened(root, kept)
    sent = pickle.dumps(found)
    assert len(sent) < 2000  # no pixels
    assert torch.equal(pickle.loads(sent).rows(torch.arange(8)), found.rows(torch.arange(8)))


def test_many_images_are_decoded_by_several_processes_to_the_same_pixels(
    root: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / NAMES[2]).write_bytes(b"broken")
    alone = opened(root, kept)
    monkeypatch.setattr(reading, "FEW", 2)
    several = opened(root, tmp_path / "other")
    assert several.faults == alone.faults == {2: "its content cannot be decoded"}
    assert torch.equal(several.rows(torch.arange(8)), alone.rows(torch.arange(8)))


def test_a_cache_that_cannot_be_written_or_has_no_room_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data.cache must be a folder .* give data.cache=FOLDER"):
        folder(root, cache=tmp_path / "file" / "below")

    usage = module.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"0\.0 GiB are needed and 0\.0 free"):
        folder(root, cache=tmp_path / "full")
    assert not list((tmp_path / "full").rglob("pixels*"))


def build_slowly(root: Path, kept: Path, seconds: float) -> None:
    real = module.decode_image

    def slow(*given: Any) -> torch.Tensor:
        time.sleep(seconds)
        return real(*given)

    module.decode_image = slow  # in a process of its own
    opened(root, kept)


def test_a_killed_build_leaves_nothing_and_two_at_once_do_not_harm_each_other(
    root: Path, kept: Path, decoded: list[str]
) -> None:
    def two(seconds: float) -> list[Any]:
        context = multiprocessing.get_context("fork")
        both = [context.Process(target=build_slowly, args=(root, kept, seconds)) for _ in range(2)]
        for process in both:
            process.start()
        return both

    both, deadline = two(2.0), time.monotonic() + 20
    while not list(kept.glob("*/.partial.pixels*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in both:  # the one in the middle, and the one that waits
        process.kill()
        process.join(300)
    assert list(kept.glob("*/.partial.pixels*"))
    assert not list(kept.glob("*/index.json"))

    both = two(0.02)
    for process in both:
        process.join(300)
        assert process.exitcode == 0
    names = sorted(path.name.partition("-")[0] for path in entry_of(kept).iterdir())
    assert names == [".lock", "index.json", "pixels"]  # what the killed one left is gone
    expected = torch.stack([read_image(root / name, 32, 1) for name in sorted(NAMES)])
    assert torch.equal(opened(root, kept).rows(torch.arange(8)), expected)
    assert not decoded  # the entry was whole
