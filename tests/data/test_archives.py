"""Laws of zip files and shards: the images of the folder they were made of, and nothing else."""

import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pictured_folders import (
    SPLITS,
    folder,
    labelled_paths,
    many,
    paths,
    picture,
    write,
    write_tar,
    write_zip,
)
from PIL import Image

from stylex.data.limits import Limits
from stylex.data.roots import open_source
from stylex.data.shards import Tars
from stylex.data.zips import Zip
from stylex.errors import InputError

NAMES = [*many(9, "a", "b"), "a/deep/x.jpg", "b/y.webp"]


@pytest.mark.parametrize("below", ["", "wrapped/", "./", "./wrapped/"])
def test_a_zip_is_the_folder_it_was_made_of(below: str, tmp_path: Path) -> None:
    root = write(tmp_path / "root", [*NAMES, "loose.png", "a/.hidden.png"])
    zipped = write_zip(tmp_path / "a.zip", [*NAMES, "__MACOSX/a/._000.png"], below)
    for split in SPLITS:
        ours, theirs = folder(zipped, split=split), folder(root, split=split)
        assert ours.paths == theirs.paths
        assert ours.class_names == theirs.class_names
        assert ours.fingerprint == theirs.fingerprint
        everything = range(len(ours))
        assert torch.equal(ours.batch(everything)[0], theirs.batch(everything)[0])


def shard(path: Path, names: dict[str, Any], kind: str) -> Path:
    """Samples with their labels; a label that is a dictionary is the .json."""
    files = {}
    for key, label in names.items():
        files[f"{key}.{kind}"] = picture(f"{path.name}/{key}.{kind}")
        if isinstance(label, dict):
            files[f"{key}.json"] = json.dumps(label).encode()
        else:
            files[f"{key}.cls"] = str(label).encode()
    return write_tar(path, files)


def test_shards_give_images_with_the_labels_beside_them(tmp_path: Path) -> None:
    shard(tmp_path / "s" / "0.tar", {f"{i:03}": i % 11 for i in range(44)}, "jpg")
    shard(tmp_path / "s" / "1.tar", {f"d/{i:03}": {"label": i % 11} for i in range(22)}, "png")
    found = labelled_paths(tmp_path / "s")
    assert found == {
        **{f"0.tar/{i:03}.jpg": str(i % 11) for i in range(44)},
        **{f"1.tar/d/{i:03}.png": str(i % 11) for i in range(22)},
    }
    part = folder(tmp_path / "s")
    assert part.class_names == tuple(map(str, range(11)))  # by value
    levels = part.batch(range(len(part)))[0].mean((1, 2, 3))
    for path, level in zip(part.paths, levels.tolist(), strict=True):
        expected = Image.open(io.BytesIO(picture(path))).getpixel((0, 0))
        assert level == pytest.approx(expected / 127.5 - 1, abs=0.02)


def test_a_pattern_names_shards_and_a_folder_of_them_may_be_a_split(tmp_path: Path) -> None:
    for number in range(12):
        name = "train" if number < 9 else "val"
        shard(tmp_path / name / f"{number:02}.tar", {f"k{i}": "ab"[i % 2] for i in range(4)}, "png")
    assert len(labelled_paths(f"{tmp_path}/train/{{00..08}}.tar")) == 36
    by_folder = {"splits": {"train": "train", "validation": "val/09.tar", "test": "val/1*"}}
    parts = {split: paths(tmp_path, split=split, **by_folder) for split in SPLITS}
    assert [len(parts[split]) for split in SPLITS] == [36, 4, 8]
    assert parts["test"][0] == "val/10.tar/k0.png"
    with pytest.raises(InputError, match=r"got no file .*09.tar of .*train/.*correct the pattern"):
        folder(f"{tmp_path}/train/{{00..10}}.tar")
    both = open_source(f"{tmp_path}/{{train/08,val/09}}.tar")
    assert [member.name[:12] for member in both.members[::4]] == ["train/08.tar", "val/09.tar/k"]


def test_groups_of_shards_lie_within_one_split(tmp_path: Path) -> None:
    labels = {f"{i:03}": {"label": i % 2, "group": f"p{i // 6}"} for i in range(60)}
    root = shard(tmp_path / "0.tar", labels, "png")
    where: dict[str, set[str]] = {}
    for split in SPLITS:
        part = folder(root, split=split)
        for group in part.groups:
            where.setdefault(str(group), set()).add(split)
    assert len(where) == 10
    assert all(len(splits) == 1 for splits in where.values())


def test_a_table_labels_images_of_archives_too(tmp_path: Path) -> None:
    names = many(6, "x")
    csv = tmp_path / "l.csv"
    csv.write_text("file,label\n" + "".join(f"{n},{i % 2}\n" for i, n in enumerate(names)))
    found = labelled_paths(write_zip(tmp_path / "a.zip", names), labels=csv)
    assert found == {name: str(i % 2) for i, name in enumerate(names)}


@pytest.mark.parametrize(
    ("files", "law"),
    [
        (
            {"k.png": b"", "l.png": b"", "l.cls": b"1"},
            r"needs a label .* got none for 1, .*0.tar/k.png",
        ),
        ({"k.png": b"", "k.json": b"{}"}, "got none for 1"),
        ({"k.png": b"", "k.json": b"["}, "named entries with label and group, got .* at 'k' in"),
        ({"k.png": b"", "k.json": b"[1]"}, "got no named entries at 'k'"),
        ({"k.png": b"", "k.json": b'{"label": [1]}'}, "got a list for label or group at 'k'"),
        ({"k.png": b"", "k.json": b'{"label": 1, "group": {}}'}, "got a dict for label or group"),
        ({"k.png": b"", "k.json": b"[" * 100_000}, "named entries with label and group"),
        ({"k.png": b"", "k.cls": b"\xff"}, "must be a text"),
        (
            {"k.png": b"", "k.jpg": b"", "k.cls": b"1"},
            "must have one image, got another of 'k.jpg'",
        ),
    ],
)
def test_samples_that_cannot_be_labelled_are_refused(
    files: dict[str, bytes], law: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=law) as caught:
        folder(write_tar(tmp_path / "0.tar", files))
    assert len(str(caught.value)) < 1000


# Archives that mean harm


def zip_of(path: Path, change: Callable[[zipfile.ZipFile], None]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in NAMES:
            file.writestr(name, picture(name))
        change(file)
    return path


def link(file: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("a/link.png")
    info.external_attr = (0o120777) << 16
    file.writestr(info, "/etc/passwd")


def large(file: zipfile.ZipFile) -> None:
    file.writestr("a/zeros.png", bytes(2**22))


def lzma_one(file: zipfile.ZipFile) -> None:
    file.writestr("a/x.png", b"1", zipfile.ZIP_LZMA)


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (lambda file: file.writestr("../../up.png", b"1"), r"inside it, got '\.\./\.\./up.png' in"),
        (lambda file: file.writestr("/root.png", b"1"), "inside it, got '/root.png'"),
        (lambda file: file.writestr("a\\..\\..\\w.png", b"1"), "must have paths inside it"),
        (lambda file: file.writestr("a/../../b.txt", b"1"), "must have paths inside it"),
        (link, "got 'a/link.png', which is a link or a device"),
        (large, "at most 100 times its bytes, got 4194304 from .* it looks like a bomb"),
        (lzma_one, "got 'a/x.png', which is neither stored nor deflated"),
    ],
)
def test_a_zip_that_means_harm_is_refused_in_one_sentence(
    change: Callable[[zipfile.ZipFile], None], law: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=law) as caught:
        folder(zip_of(tmp_path / "a.zip", change))
    assert str(caught.value).isprintable()
    assert not list(tmp_path.parent.glob("up.png"))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_zip_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", lambda file: file.writestr(NAMES[0], b"other"))
    with pytest.raises(InputError, match="names of their own, got 'a/000.png' twice"):
        folder(path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", NAMES)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="got 'a/000.png', which is encrypted"):
        folder(path)


def test_many_members_over_the_same_bytes_are_a_bomb(tmp_path: Path) -> None:
    """Each is within the ratio, all of them together are not; their headers lie in each other."""
    path = tmp_path / "a.zip"
    content = os.urandom(10_000) + bytes(600_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/0.png", content)
    raw = path.read_bytes()
    start, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entry = raw[start:end]
    entries = [entry.replace(b"a/0.png", b"a/%c.png" % (65 + i)) for i in range(40)]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 40, 40, len(b"".join(entries)), start, 0)
    path.write_bytes(raw[:start] + b"".join(entries) + tail)
    with pytest.raises(InputError, match="for all of it in .* it looks like a bomb"):
        folder(path)


def test_a_header_that_lies_about_its_size_gives_a_broken_image(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", NAMES)
    content = bytearray(path.read_bytes())
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 24, 7)  # bytes, unpacked
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a/000.png \(its checksum in the archive is wrong\)"):
        folder(path)


@pytest.mark.parametrize("limits", [Limits(members=19), Limits(member_bytes=20)])
def test_archives_beyond_a_limit_are_refused(limits: Limits, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", NAMES)
    with pytest.raises(InputError, match="may have at most (19 members, got 20|20 bytes, got)"):
        Zip(path, limits)
    shards = [
        write_tar(tmp_path / f"{i}.tar", {n: picture(n) for n in NAMES[i * 10 : i * 10 + 10]})
        for i in range(2)
    ]
    with pytest.raises(InputError, match="may have at most (19 members, got 20|20 bytes, got)"):
        Tars("s", tmp_path, shards, limits)


def tar_of(path: Path, **facts: Any) -> Path:
    write_tar(
        path, {"k.png": picture("k.png"), "k.cls": b"1", "l.png": picture("l.png"), "l.cls": b"2"}
    )
    with tarfile.open(path, "a") as file:
        info = tarfile.TarInfo("m.png")
        for name, value in facts.items():
            setattr(info, name, value)
        file.addfile(info)
    return path


@pytest.mark.parametrize(
    "facts",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "k.png"},
        {"type": tarfile.CHRTYPE},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
)
def test_links_and_devices_in_a_shard_are_refused(facts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got 'm.png', which is a link or a device"):
        folder(tar_of(tmp_path / "0.tar", **facts))


@pytest.mark.parametrize("name", ["../m.png", "/m.png", "a/../../m.png", "k.png"])
def test_paths_out_of_a_shard_and_names_that_repeat_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must have (paths inside it|names of their own)"):
        folder(tar_of(tmp_path / "0.tar", name=name))


def test_a_member_of_negative_size_does_not_read_in_a_circle(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "0.tar")
    content = bytearray(path.read_bytes())
    start = content.index(b"m.png")
    content[start + 124 : start + 136] = b"\xff" * 10 + b"\xf8\x00"  # size: -2048, in base 256
    content[start + 148 : start + 156] = b" " * 8
    total = sum(content[start : start + 512])
    content[start + 148 : start + 156] = b"%06o\0 " % total
    path.write_bytes(content)
    with pytest.raises(InputError, match="whole, uncompressed tar files, got"):
        folder(path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_that_are_cut_or_none_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    whole = (write_zip(path, NAMES) if kind == "zip" else tar_of(path)).read_bytes()
    for content in (b"", b"no archive" * 99, whole[:700], zlib.compress(whole), whole[:-11_000]):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            folder(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("side", [9_500, 15_000, 60_000])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    side: int, tmp_path: Path
) -> None:
    """Its pixels are not there: whoever decodes it finds another fault."""
    root = write(tmp_path, many(3, "a", "b"))
    chunks = [
        b"IHDR" + struct.pack(">LLBBBBB", side, side, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(bytes(1000)),
    ]
    parts = [struct.pack(">L", len(c) - 4) + c + struct.pack(">L", zlib.crc32(c)) for c in chunks]
    (root / "a" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(InputError, match=r"bomb.png \(it has more than 89 million pixels\)"):
        folder(root)
    assert len(folder(root, on_error="skip")) > 0


def test_a_root_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    for name in ("a.tar.gz", "notes.txt", "gone.zip", "gone.tar"):
        with pytest.raises(InputError, match=f"existing folder, got .*{name}: correct the path"):
            open_source(tmp_path / name)
    with pytest.raises(InputError, match="must count upwards over at most 100,000 files"):
        open_source(f"{tmp_path}/{{0..9999999}}.tar")
