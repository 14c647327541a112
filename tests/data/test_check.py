"""Laws of `python -m stylex.data.check`: each image read once, what is wrong named, no more."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import code_of
from pictured_folders import paths, write_tar
from PIL import Image

from stylex.data.check.__main__ import check
from stylex.data.check.presentation import write
from stylex.data.check.survey import Finding, Survey, survey
from stylex.data.check.survey import Image as Checked
from stylex.errors import InputError

SHARES: dict[str, Any] = {"validation_share": 0.1, "test_share": 0.2, "seed": 0}
Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def checked(capsys: pytest.CaptureFixture[str]) -> Check:
    """Opens the door; gives the exit code and what was printed and refused."""

    def opened(*typed: str) -> tuple[int, str, str]:
        code = code_of("check", check, typed)
        out, err = capsys.readouterr()
        return code, out, err

    return opened


def draw(path: Path, number: int, size: int = 40) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (size, size + 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(40):
        draw(tmp_path / "root" / "ab"[number % 2] / f"{number:02}.png", number)
    return tmp_path / "root"


def test_a_clean_folder_has_counts_and_exit_code_0(root: Path, checked: Check) -> None:
    code, out, _ = checked("data=folder", f"data.root={root}", "data.resolution=32")
    assert code == 0
    assert [line.split() for line in out.splitlines()[2:6]] == [
        ["class", "train", "validation", "test", "all"],
        ["a", "16", "2", "2", "20"],
        ["b", "16", "2", "2", "20"],
        ["all", "32", "4", "4", "40"],
    ]
    assert out.count(": none") == 3


def test_each_fault_is_found_once_and_everything_is_in_the_files(
    root: Path, tmp_path: Path, checked: Check
) -> None:
    (root / "a" / "broken.png").write_bytes((root / "a" / "00.png").read_bytes()[:200])
    draw(root / "a" / "small.png", 99, size=20)
    (root / "a" / "again.png").write_bytes((root / "a" / "02.png").read_bytes())
    Image.open(root / "b" / "05.png").save(root / "a" / "other.webp", lossless=True)
    for name in ("f.csv", "f.json"):
        given = f"data.root={root}", "data.resolution=32", f"output={tmp_path / name}"
        code, out, _ = checked("data=folder", *given)
        assert code == 1
        for kind in ("corrupt: 1", "too small: 1", "duplicated: 2"):
            assert kind in out.splitlines()
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["num_images"] == 44
    assert sum(sum(counts.values()) for counts in found["counts"].values()) == 44
    by_kind = [(f["kind"], [i["file"] for i in f["images"]]) for f in found["findings"]]
    assert sorted(map(str, by_kind)) == sorted(
        map(
            str,
            [
                ("corrupt", ["a/broken.png"]),
                ("too small", ["a/small.png"]),
                ("duplicated", ["a/02.png", "a/again.png"]),
                ("duplicated", ["a/other.webp", "b/05.png"]),
            ],
        )
    )
    details = {f["images"][0]["file"]: f["detail"] for f in found["findings"]}
    assert details["a/small.png"] == "28 x 20 pixels"
    assert details["a/02.png"].startswith("same bytes")
    assert details["a/other.webp"].startswith("same pixels")
    assert details["a/other.webp"].endswith("with different labels")
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [
        image["file"] for finding in found["findings"] for image in finding["images"]
    ]
    assert list(rows[0]) == ["finding", "kind", "file", "class", "split", "detail"]


def test_groups_are_counted(root: Path, tmp_path: Path, checked: Check) -> None:
    rows = [f"{file.relative_to(root)},{file.parent.name},{i // 4}" for i, file in files_of(root)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,group", *rows]))
    given = f"data.root={root}", "data.resolution=32", f"data.labels={tmp_path / 't.csv'}"
    code, out, _ = checked("data=folder", *given, f"output={tmp_path / 'f.json'}")
    assert code == 0
    assert "10 groups, each within one split" in out.splitlines()
    assert json.loads((tmp_path / "f.json").read_text())["num_groups"] == 10


def files_of(root: Path) -> list[tuple[int, Path]]:
    return list(enumerate(sorted(root.glob("*/*.png"))))


def test_a_duplicate_across_splits_is_said_as_one(root: Path) -> None:
    test = paths(root, split="test", channels=3)
    train = paths(root, split="train", channels=3)
    (root / train[0]).write_bytes((root / test[0]).read_bytes())
    (found,) = survey(root=root, resolution=None, **SHARES).findings
    assert found.detail == "same bytes, in train and test"
    assert {image.split for image in found.images} == {"train", "test"}


def test_images_without_a_class_are_counted_and_not_read(root: Path) -> None:
    (root / "c").mkdir()
    (root / "c" / "x.png").write_bytes(b"broken")
    found = survey(root=root, resolution=64, classes=["b", "a"], **SHARES)
    assert found.class_names == ("b", "a")
    assert (len(found.images), found.num_left_out) == (40, 1)
    assert {finding.kind for finding in found.findings} == {"too small"}


def test_shards_are_checked_too(tmp_path: Path) -> None:
    files = {}
    for number in range(8):
        content = io.BytesIO()
        Image.new("L", (33, 33), 30 * (number % 7)).save(content, "PNG")
        files |= {f"{number}.png": content.getvalue(), f"{number}.cls": str(number % 2).encode()}
    files["3.png"] = b"broken"
    found = survey(root=write_tar(tmp_path / "0.tar", files), resolution=32, **SHARES)
    assert [(f.kind, [i.file for i in f.images]) for f in found.findings] == [
        ("corrupt", ["0.tar/3.png"]),
        ("duplicated", ["0.tar/0.png", "0.tar/7.png"]),
    ]


def test_no_cell_of_the_table_is_a_formula_and_no_name_breaks_a_line(
    tmp_path: Path, checked: Check
) -> None:
    names = ("=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "\rx", "a\nb", "ok")
    for number, name in enumerate(names):
        for i in range(3):
            draw(tmp_path / "root" / name / f"{i}.png", 10 * number + i)
        (tmp_path / "root" / name / "=x.png").write_bytes(b"broken")
    code, out, _ = checked(f"data.root={tmp_path / 'root'}", f"output={tmp_path / 'f.csv'}")
    assert code == 1
    assert "a\\nb/=x.png (a\\nb, " in out
    assert len(out.splitlines()) == 2 + 1 + len(names) + 1 + 3 + 8 + 2 + 1 + 2
    with (tmp_path / "f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
    assert {row["class"].removeprefix("'") for row in rows} == set(names)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["data=folder", "data.root=nowhere"], "existing folder, got nowhere: correct the path"),
        (["data=folder"], "data.root must be given"),
        (["data=faces"], "the check is of image files, got a data option that has none"),
        (["data.root=nowhere", "output=a.txt"], "output must end in .csv or .json, got 'a.txt'"),
        (["data.root=nowhere", "data.labls=x"], "the nearest one is 'data.labels'"),
    ],
)
def test_a_users_mistake_has_exit_code_2(typed: list[str], message: str, checked: Check) -> None:
    code, _, err = checked(*typed)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_findings_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = Finding("corrupt", "x", (Checked("a", "b", "test"),))
    found = Survey("r", ("b",), finding.images, 0, 0, (finding,))
    with pytest.raises(InputError, match="output must be a file that can be written, got"):
        write(found, tmp_path / "file" / "f.csv")
