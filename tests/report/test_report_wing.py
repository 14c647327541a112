"""The wing on a page: everything that wing.json names is there, and nothing is run or loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stylex.errors import InputError
from stylex.imaging import write_png
from stylex.report.wing import find_wing, read_wing, write_wing_page

MAPS = ["heat-1-1.png", "heat-1-2.png"]
EVIL = "<script>alert('x')</script>"


def method(name: str, *parts: dict[str, Any]) -> dict[str, Any]:
    texts = {"title": name.title(), "family": "Pixels", "place": "local", "reading": "Bright."}
    texts["refusal"] = "" if parts else "it needs rectifiers, got none"
    return {"name": name, **texts, "seconds": 1.5, "parts": list(parts)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, a method with maps, one with pictures and numbers."""
    for name in ("image-1", "image-2", "heat-1-1", "heat-1-2", "dream-1-1"):
        write_png(tmp_path / f"{name}.png", torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8))
    facts = {
        "schema": 1,
        "network": "SmallCNN",
        "stylex": "local and global",
        "images": [
            {"file": "image-1.png", "caption": f"{EVIL}: cat 0.90"},
            {"file": "image-2.png", "caption": "b.png: dog 0.80"},
        ],
        "methods": [
            method("heat", {"kind": "maps", "files": MAPS, "captions": ["0 to 1", ""]}),
            method(
                "dream",
                {
                    "kind": "pictures",
                    "files": ["dream-1-1.png"],
                    "captions": ["4 octaves"],
                    "columns": 2,
                },
                {
                    "kind": "table",
                    "columns": ["attack", "success"],
                    "rows": [["FGSM", 0.51234], ["none", None]],
                    "reading": "Shares.",
                },
            ),
            method("guided"),
        ],
    }
    (tmp_path / "wing.json").write_text(json.dumps(facts))
    return tmp_path


def test_the_page_shows_every_picture_and_number(folder: Path) -> None:
    write_wing_page(folder / "index.html", read_wing(folder))
    page = (folder / "index.html").read_text()
    assert page.count("data:image/webp;base64,") == 5
    for text in (
        "Heat",
        "Dream",
        "4 octaves",
        "FGSM",
        "0.512",
        "not to be had",
        "Left out: it needs rectifiers",
        "b.png: dog 0.80",
    ):
        assert text in page
    assert "http" not in page.replace("http-equiv", "")


def test_names_are_data(folder: Path) -> None:
    write_wing_page(folder / "index.html", read_wing(folder))
    page = (folder / "index.html").read_text()
    assert EVIL not in page
    assert "&lt;script&gt;alert" in page


def test_a_folder_without_a_wing_has_none(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "search").mkdir()
    assert find_wing(tmp_path / "search") is None
    with pytest.raises(InputError, match=r"needs wing.json, got none in"):
        read_wing(tmp_path / "search")
    folder.rename(folder.parent / "search2")
    (folder.parent / "search3").mkdir()
    (folder.parent / "search2").rename(folder.parent / "search3" / "attribution")
    found = find_wing(folder.parent / "search3")
    assert found is not None
    assert [m.title for m in found.mapped] == ["Heat"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema": 2}, "must have schema 1, got 2"),
        ({"methods": [{}]}, "must be whole, got KeyError"),
        ({"images": [{"file": "gone.png", "caption": ""}]}, "must be a readable PNG file"),
        ({"images": [{"file": "../../etc/passwd", "caption": ""}]}, "must be a readable PNG file"),
    ],
)
def test_a_broken_wing_is_refused(folder: Path, change: dict[str, Any], match: str) -> None:
    facts = json.loads((folder / "wing.json").read_text())
    (folder / "wing.json").write_text(json.dumps({**facts, **change}))
    with pytest.raises(InputError, match=match):
        read_wing(folder)
