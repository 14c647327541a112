"""Archives that are broken or mean harm: refused in one sentence, nothing extracted."""

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from doors import code_of
from fuzzing import Entrance, assert_lawful, assert_whole, corrupted, listing
from PIL import Image

from stylex.data.check.__main__ import check


@cache
def pixels(level: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (32, 32), (level, 9, 9)).save(content, "PNG")
    return content.getvalue()


def zipped(change: Callable[[zipfile.ZipFile], object] = lambda file: None) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for i in range(10):
            file.writestr(f"{'ab'[i % 2]}/{i}.png", pixels(i))
        change(file)
    return content.getvalue()


def tarred(
    change: Callable[[tarfile.TarFile], object] = lambda file: None, mode: str = "w"
) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as file:
        for i in range(10):
            put(file, f"{i}.png", pixels(i))
            put(file, f"{i}.cls", b"%d" % (i % 2))
        change(file)
    return content.getvalue()


def put(file: tarfile.TarFile, name: str, content: bytes = b"x", **facts: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in facts.items():
        setattr(info, key, value)
    file.addfile(info, io.BytesIO(content))


def patched(content: bytes, mark: bytes, offset: int, form: str, value: int) -> bytes:
    """A number changed in the first record with this mark."""
    changed = bytearray(content)
    struct.pack_into(form, changed, content.index(mark) + offset, value)
    return bytes(changed)


def link(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


NAMES = {
    "up": "../../up.png",
    "the root": "/etc/up.png",
    "a drive": "C:\\up.png",
    "up by backslashes": "a\\..\\..\\up.png",
    "up in the middle": "a/../../up.png",
    "a line's end": "a/x\ny.png",
    "NUL": "a/x\0/../y.png",
    "a terminal's escape": "a/\x1b[2Jx.png",
    "right to left": "a/\u202egnp.png",
    "300 letters": f"a/{'x' * 300}.png",
    "60,000 letters": f"a/{'x' * 60_000}.png",
    "300 folders": f"{'a/' * 300}x.png",
    "con": "con/nul.png",
    "a page": "<script>alert(1)<!script>/x.png",
    "nothing": "",
    "a dot": ".",
    "half a letter": "a/\udcff.png",
}


def zips() -> dict[str, bytes]:
    whole, entry, end = zipped(), b"PK\1\2", b"PK\5\6"
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as file:
        file.writestr("in.zip", whole)
    found = {f"zip {how}": content for how, content in corrupted(whole, 10).items()}
    for what, name in NAMES.items():
        if name and "\udcff" not in name:
            found[f"zip with {what}"] = zipped(lambda file, name=name: file.writestr(name, b"x"))
    return found | {
        "zip with a link": zipped(lambda f: f.writestr(link("a/l.png", 0o120777), "/etc/passwd")),
        "zip with a device": zipped(lambda f: f.writestr(link("a/l.png", 0o020666), "")),
        "zip with a pipe": zipped(lambda f: f.writestr(link("a/l.png", 0o010666), "")),
        "zip with a bomb": zipped(lambda f: f.writestr("a/z.png", bytes(2**23))),
        "zip in a zip": nested.getvalue(),
        "encrypted zip": patched(whole, entry, 8, "<H", 1),
        "zip of another method": patched(whole, entry, 10, "<H", 99),
        "zip that says 4 GB": patched(whole, entry, 24, "<L", 2**32 - 2),
        "zip that says -1 byte": patched(whole, entry, 20, "<L", 2**32 - 1),
        "zip that says 0 bytes": patched(whole, entry, 24, "<L", 0),
        "zip of wrong checksums": patched(whole, entry, 16, "<L", 7),
        "zip that points behind its end": patched(whole, entry, 42, "<L", 2**31),
        "zip of 65,535 members": patched(whole, end, 10, "<H", 65_535),
        "zip whose list is behind its end": patched(whole, end, 16, "<L", 2**31),
        "zip of a negative list": patched(whole, end, 12, "<L", 2**32 - 1),
        "zip with another local header": patched(whole, b"PK\3\4", 0, "<L", 0),
        "zip with a long local name": patched(whole, b"PK\3\4", 26, "<H", 65_535),
    }


def tars() -> dict[str, bytes]:
    found = {f"tar {how}": content for how, content in corrupted(tarred(), 10).items()}
    for what, name in NAMES.items():
        if name:
            found[f"tar with {what}"] = tarred(lambda file, name=name: put(file, name))
    kinds = {
        "link": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "device": tarfile.CHRTYPE,
        "pipe": tarfile.FIFOTYPE,
        "sparse file": tarfile.GNUTYPE_SPARSE,
        "unknown kind": b"Z",
    }
    for what, kind in kinds.items():
        facts = {"type": kind, "linkname": "/etc/passwd"}
        found[f"tar with a {what}"] = tarred(
            lambda file, facts=facts: put(file, "l.png", b"", **facts)
        )
    labels = {
        "no label": b"",
        "a list": b"[1]",
        "an open brace": b'{"label": ',
        "100,000 brackets": b"[" * 100_000,
        "a dictionary for a label": b'{"label": {}}',
        "no number": b'{"label": NaN}',
        "a large number": b'{"label": %s}' % (b"9" * 5000),
        "NUL": b'{"label": "\\u0000"}',
        "half a letter": b'{"label": "\\ud800"}',
        "UTF-16": '{"label": "1"}'.encode("utf-16"),
        "a group twice": b'{"label": "1", "group": [1]}',
        "one key twice": b'{"label": "1", "label": "2"}',
    }
    for what, content in labels.items():

        def add(file: tarfile.TarFile, content: bytes = content) -> None:
            put(file, "x.png", pixels(3))
            put(file, "x.json", content)

        found[f"tar with {what}"] = tarred(add)
    return found | {
        "tar packed by gzip": tarred(mode="w:gz"),
        "tar packed by bzip2": tarred(mode="w:bz2"),
        "tar packed by xz": tarred(mode="w:xz"),
        "tar with a size of its own": tarred()[:124] + b"77777777777\0" + tarred()[136:],
        "tar with a size below 0": tarred()[:124] + b"\xff" * 12 + tarred()[136:],
        "tar with a large PAX header": tarred(
            lambda file: put(file, "x.png", pax_headers={"comment": "y" * 10**6})
        ),
        "tar whose PAX header says another size": tarred(
            lambda file: put(file, "x.png", pax_headers={"size": "99999999"})
        ),
    }


def corpus() -> dict[str, tuple[str, bytes]]:
    found = {name: ("a.zip", content) for name, content in zips().items()}
    return found | {name: ("a.tar", content) for name, content in tars().items()}


NOT_FILES = (
    "a.zip",
    "a.tar",
    "train-{0..9}.tar",
    "{.tar",
    "train-{9..0}.tar",
    "{a,b.tar",
    "a\0.tar",
)
PATTERNS = (*NOT_FILES, "train-{0..99999999999}.tar", "{0..9}{0..9}{0..9}{0..9}{0..9}{0..9}.tar")


@pytest.mark.parametrize(
    ("name", "content"), [pytest.param(*given, id=what) for what, given in corpus().items()]
)
def test_an_archive_is_read_or_refused_and_nothing_is_extracted(
    name: str, content: bytes, tmp_path: Path, entrances: dict[str, Entrance], home: Path
) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir()
    path.write_bytes(content)
    before = listing(tmp_path)
    code, said = entrances["check"].enter(data__root=str(path))
    assert_lawful(code, said, (0, 1, 2))
    found, told = entrances["classifier"].enter(data__root=str(path), data__batch_size=2)
    assert_lawful(found, told, (0, 2))
    assert listing(tmp_path) == before
    assert_whole(home / "output")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("folder", [False, True])
def test_a_pattern_of_nothing_is_refused(
    pattern: str, folder: bool, tmp_path: Path, entrances: dict[str, Entrance]
) -> None:
    if folder and "\0" not in pattern:
        (tmp_path / pattern).mkdir()
    code, said = entrances["check"].enter(data__root=f"{tmp_path}/{pattern}")
    assert_lawful(code, said)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zip with up", "tar with a link", "zip with a bomb", "tar empty"])
def test_the_whole_door_says_the_same(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, content = corpus()[name]
    (tmp_path / file).write_bytes(content)
    code = code_of("check", check, [f"data.root={json.dumps(str(tmp_path / file))}"])
    assert_lawful(code, capsys.readouterr().err)
