"""Solar cells of elpv-dataset: a stand-in for its folder, and the package itself where it is."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from domains import solar_cells

from stylex.data import elpv
from stylex.errors import InputError
from stylex.imaging import to_uint8

SHARES = {"validation_share": 0.2, "test_share": 0.3, "seed": 0}
FORM = {"resolution": 32, "channels": 1}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty cells, ten of each probability of a defect."""
    solar_cells(tmp_path)
    monkeypatch.setattr(elpv, "_folder", lambda: tmp_path)
    return tmp_path


def cells(split: str, **changes: Any) -> elpv.SolarCells:
    return elpv.SolarCells(split=split, **{**FORM, **SHARES, **changes})


def test_only_cells_that_experts_were_sure_of_are_there_and_each_in_one_split(folder: Path) -> None:
    found = [cells(split) for split in ("train", "validation", "test")]
    assert [len(part) for part in found] == [10, 4, 6]
    paths = [path for part in found for path in part.paths]
    assert sorted(paths) == [f"images/cell{i:04d}.png" for i in range(40) if i % 4 < 2]
    for part in found:
        assert part.class_names == ("intact", "defective")
        assert part.labels.tolist() == [int(Path(p).stem[4:]) % 4 for p in part.paths]


def test_cells_are_the_files_pixels_grey_or_repeated(folder: Path) -> None:
    grey, coloured = cells("test"), cells("test", channels=3)
    images, labels = grey.batch([2, 0, 2])
    assert images.shape == (3, 1, 32, 32)
    assert torch.equal(images[0], images[2])
    assert labels.tolist() == grey.labels[[2, 0, 2]].tolist()
    assert torch.equal(coloured.batch([2])[0], images[:1].expand(1, 3, 32, 32))
    assert int(to_uint8(images).float().std()) > 1  # not empty


def test_the_photographs_are_resized_once_and_anew_when_they_change(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    first = cells("train", cache=cache)
    before, _ = first.batch([0])
    made = sorted(cache.rglob("*"))
    assert torch.equal(cells("train", cache=cache).batch([0])[0], before)
    assert sorted(cache.rglob("*")) == made
    (folder / first.paths[0]).write_bytes((folder / first.paths[1]).read_bytes())
    assert not torch.equal(cells("train", cache=cache).batch([0])[0], before)


def test_a_broken_photograph_is_named(folder: Path) -> None:
    (folder / "images" / "cell0001.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"readable.*cell0001\.png"):
        cells("train")


def test_the_seed_decides_the_split_and_the_content_the_fingerprint(folder: Path) -> None:
    before = cells("train")
    assert before.paths == cells("train").paths != cells("train", seed=1).paths
    assert cells("train").fingerprint == before.fingerprint != cells("train", seed=1).fingerprint
    (folder / before.paths[0]).write_bytes((folder / "images" / "cell0002.png").read_bytes() + b" ")
    assert cells("train").fingerprint != before.fingerprint


def test_the_licence_is_said_when_the_cells_are_used(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "stylex"):
        cells("train")
    assert "CC BY-NC-SA 4.0: no commercial use" in caplog.text


BROKEN = (
    "images/cell0000.png 1.0\n",
    "images/cell0000.png high mono\n",
    "images/none.png 1 mono\n",
)


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_table_is_one_sentence(folder: Path, text: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=r"labels.csv must have lines.*install the package again"):
        cells("train")
    (folder / "labels.csv").unlink()
    with pytest.raises(InputError, match=r"labels.csv must have lines.*install the package again"):
        cells("train")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elpv, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"needs the package elpv-dataset.*'stylex\[elpv\]'"):
        cells("train")


@pytest.mark.slow
def test_the_package_has_1508_intact_and_715_defective_cells() -> None:
    pytest.importorskip("elpv_dataset", reason="needs pip install '.[elpv]'")
    found = [cells(split) for split in ("train", "validation", "test")]
    counts = torch.stack([torch.bincount(part.labels, minlength=2) for part in found])
    assert counts.sum(dim=0).tolist() == [1508, 715]
    assert min(len(part) for part in found) > 400
    seen, _ = found[1].batch([0, len(found[1]) - 1])
    assert seen.flatten(1).std(dim=1).min() > 0.05
