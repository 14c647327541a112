"""Broken and hostile CSV files and lists of names: refused in one sentence, or read."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fuzzing import Entrance, assert_lawful, assert_whole, cases, corrupted, listing

from stylex.errors import InputError
from stylex.evaluation.groups import _read_rows
from stylex.evaluation.study import read_answers
from stylex.report.results import read_names

ROWS = [f"{name}/{i:02d}.png" for name in ("circle", "square", "star") for i in range(10)]


def table(*more: str, header: str = "file,label,group", end: str = "\n") -> bytes:
    lines = [header, *(f"{row},{row[:2]},g{i}" for i, row in enumerate(ROWS)), *more]
    return (end.join(lines) + end).encode()


def labels() -> dict[str, bytes]:
    whole = table()
    found = {f"labels {how}": content for how, content in corrupted(whole, 8).items()}
    return found | {
        "NUL": table("a\0b,c,d"),
        "UTF-16": whole.decode().encode("utf-16"),
        "UTF-32": whole.decode().encode("utf-32"),
        "a mark of UTF-8": b"\xef\xbb\xbf" + whole,
        "Latin-1": table("\u00e4.png,\u00e4,1").decode().encode("latin-1"),
        "an open quote": table('"circle/00.png,x,1'),
        "a quote in the middle": table('circle/0"0.png,x,1'),
        "text behind a quote": table('"circle/00.png"x,x,1'),
        "a cell of 200,000 letters": table(f"{'x' * 200_000},y,1"),
        "100,000 commas": table("," * 100_000),
        "one column": b"file\n" + "\n".join(ROWS).encode(),
        "no label": table(header="file,name,group"),
        "a column twice": table(header="file,label,label"),
        "no header": table(header=""),
        "only a header": b"file,label\n",
        "spaces around": table(header=" file , label , group "),
        "semicolons": whole.replace(b",", b";"),
        "tabs": whole.replace(b",", b"\t"),
        "old Mac's lines": whole.replace(b"\n", b"\r"),
        "Windows' lines": whole.replace(b"\n", b"\r\n"),
        "lines of nothing": whole.replace(b"\n", b"\n\n\n"),
        "a file above": table("../../etc/passwd,x,1"),
        "a file of the root": table("/etc/passwd,x,1"),
        "a file that is not there": table("circle/99.png,x,1"),
        "a file twice": table("circle/00.png,x,1"),
        "a formula": table('"=HYPERLINK(""http://x"")",x,1'),
        "a page": table("<script>alert(1)</script>,x,1"),
        "a label of nothing": table().replace(b"ci,g0", b",g0"),
        "a label of spaces": table().replace(b"ci,g0", b"  ,g0"),
        "a label of 5,000 letters": table().replace(b"ci,g0", b"x" * 5000 + b",g0"),
        "a label that is a formula": table().replace(b",ci,", b",=1+1,"),
        "a label that is a path": table().replace(b",ci,", b",../../etc,"),
        "a label that turns the line": table().replace(b",ci,", ",\u202ec,".encode()),
        "one label": table().replace(b",sq,", b",ci,").replace(b",st,", b",ci,"),
        "a split of its own": table(header="file,label,split"),
        "one group": table().replace(b",g", b",one#"),
    }


STUDY = "participant,kind,from,to,attribute,answer,correct\np,same change,a,b,4px #1,1,1\n"


def studies() -> dict[str, bytes]:
    found = {f"study {how}": content for how, content in corrupted(STUDY.encode(), 6).items()}
    rows = {
        "another kind": "p,other,a,b,x,1,1",
        "right as a word": "p,same change,a,b,x,1,yes",
        "a short row": "p,same change,a",
        "a long row": "p,same change,a,b,x,1,1,2,3,4",
        "a formula": "=1+1,words,=1,=2,=3,=cmd|'/c calc'!A0,",
        "an open quote": '"p,same change,a,b,x,1,1',
        "NUL": "p\0,same change,a,b,x,1,1",
        "a cell of 200,000 letters": f"p,words,a,b,x,{'y' * 200_000},",
    }
    more = {f"study with {what}": (STUDY + row + "\n").encode() for what, row in rows.items()}
    return found | more | {"study in UTF-16": STUDY.encode("utf-16")}


GROUPS = "position,group\n0,a\n1,b\n"


def groups() -> dict[str, bytes]:
    found = {f"groups {how}": content for how, content in corrupted(GROUPS.encode(), 4).items()}
    rows = {
        "a long row": "2,a,b,c",
        "a short row": "2",
        "an open quote": '2,"a',
        "NUL": "2,\0",
        "a cell of 200,000 letters": f"2,{'y' * 200_000}",
    }
    more = {f"groups with {what}": (GROUPS + row + "\n").encode() for what, row in rows.items()}
    return found | more | {"groups in UTF-16": GROUPS.encode("utf-16")}


def names() -> dict[str, bytes]:
    sound = {"4px conv #1 → largest": "beard", "4px conv #2 → smallest": "hat"}
    found = corrupted(json.dumps(sound).encode(), 6)
    odd: dict[str, Any] = {
        "a list": [1, 2],
        "a number": 3,
        "a number for a name": {"a": 1},
        "null for a name": {"a": None},
        "a long name": {"a": "x" * 100_000},
        "a page": {"<script>": "<script>alert(1)</script>"},
        "lines": {"a": "x\ny\r\nz"},
        "half a letter": {"a": "\ud800"},
    }
    found |= {what: json.dumps(value).encode() for what, value in odd.items()}
    found |= {
        "100,000 brackets": b"[" * 100_000,
        "100,000 braces": b'{"a":' * 100_000,
        "5,000 digits": b'{"a": %s}' % (b"9" * 5000),
        "UTF-16": json.dumps(sound).encode("utf-16"),
        "no number": b'{"a": NaN}',
    }
    return {f"names {what}": content for what, content in found.items()}


def read_groups(path: Path) -> object:
    return _read_rows(path)


@pytest.mark.parametrize("content", cases(labels()))
def test_labels_are_read_or_refused(
    content: bytes, tmp_path: Path, entrances: dict[str, Entrance], home: Path, pictures: Path
) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    before = listing(pictures)
    code, said = entrances["check"].enter(data__labels=str(path))
    assert_lawful(code, said, (0, 1, 2))
    found, told = entrances["classifier"].enter(data__labels=str(path), data__batch_size=1)
    assert_lawful(found, told, (0, 2))
    assert path.read_bytes() == content
    assert listing(pictures) == before
    assert_whole(home / "output")


@pytest.mark.parametrize("what", ["a folder", "a link to nothing", "a link to itself", "nothing"])
def test_labels_that_are_no_file_are_refused(
    what: str, tmp_path: Path, entrances: dict[str, Entrance]
) -> None:
    path = tmp_path / "labels.csv"
    if what == "a folder":
        path.mkdir()
    elif what != "nothing":
        os.symlink("gone" if what == "a link to nothing" else path.name, path)
    assert_lawful(*entrances["check"].enter(data__labels=str(path)))


@pytest.mark.parametrize("content", cases(labels()))
def test_what_a_check_writes_of_odd_labels_is_whole_and_harmless(
    content: bytes, tmp_path: Path, entrances: dict[str, Entrance]
) -> None:
    path, output = tmp_path / "labels.csv", tmp_path / "out" / "found.csv"
    path.write_bytes(content)
    code, said = entrances["check"].enter(
        data__labels=str(path), data__resolution=64, output=str(output)
    )
    assert_lawful(code, said, (0, 1, 2))
    assert output.exists() == (code != 2)
    assert_whole(tmp_path / "out")


@pytest.mark.parametrize(
    ("read", "content"),
    [pytest.param(read_groups, content, id=name) for name, content in groups().items()]
    + [pytest.param(read_names, content, id=name) for name, content in names().items()]
    + [pytest.param(lambda p: read_answers([p]), c, id=name) for name, c in studies().items()],
)
def test_what_is_read_from_a_broken_file_is_told_in_a_sentence(
    read: Any, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        read(path)
    except InputError as error:
        assert len(str(error)) < 2000
