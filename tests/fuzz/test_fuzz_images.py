"""Broken, odd and hostile images: a finding or a refusal in one sentence, or read; no traceback."""

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from doors import code_of
from fuzzing import Entrance, assert_lawful, assert_whole, cases, corrupted, listing
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stylex.data.check.__main__ import check
from stylex.errors import InputError
from stylex.live.uploads import Limits, read_upload

KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WebP"}
Make = Callable[[Path], object]


@cache
def sound(kind: str) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels), KINDS[kind])


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, more: bytes = b"") -> bytes:
    """A PNG whose header says what it likes; its pixels are few."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(64)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + pixels + chunk(b"IEND", b"")


def without_tables(content: bytes) -> bytes:
    """A JPEG whose Huffman tables are nonsense."""
    at = content.index(b"\xff\xc4")
    return content[: at + 5] + b"\xff" * 20 + content[at + 25 :]


def large_jpeg(content: bytes) -> bytes:
    """A JPEG that says 65,000 x 65,000."""
    at = content.index(b"\xff\xc0")
    return content[: at + 5] + struct.pack(">HH", 65000, 65000) + content[at + 9 :]


def nasty() -> dict[str, tuple[str, bytes]]:
    """By name, the file's ending and content."""
    flat = Image.new("RGB", (40, 40), (9, 80, 200))
    frames = [Image.new("RGB", (40, 40), (i * 60, 0, 0)) for i in range(3)]
    bomb = chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(2**22)))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x03\xff\xff\xff\xff\0\6\0\0" * 200
    turned = Image.Exif()
    turned[0x0112] = 99
    jpeg = sound("jpg")
    deep = Image.fromarray(np.full((40, 40), 40_000, np.uint16))
    return {
        "60,000 px a side": ("png", png(60_000, 60_000)),
        "2^31 px a side": ("png", png(2**31 - 1, 2**31 - 1)),
        "no width": ("png", png(0, 40)),
        "a depth of 3": ("png", png(40, 40, depth=3)),
        "a colour type of 5": ("png", png(40, 40, colour=5)),
        "a palette that is not there": ("png", png(40, 40, colour=3)),
        "fewer pixels than it says": ("png", png(40, 40)),
        "a text that unpacks to 4 MB": ("png", png(40, 40, more=bomb)),
        "a colour profile of nonsense": (
            "png",
            png(40, 40, more=chunk(b"iCCP", b"x\0\0" + zlib.compress(b"?" * 99))),
        ),
        "no Huffman tables": ("jpg", without_tables(jpeg)),
        "65,000 px a side": ("jpg", large_jpeg(jpeg)),
        "EXIF of 65,535 entries": (
            "jpg",
            jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:],
        ),
        "EXIF that turns it by 99": ("jpg", saved(flat, "JPEG", exif=turned.tobytes())),
        "animated PNG": ("png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])),
        "animated WebP": (
            "webp",
            saved(frames[0], "WebP", save_all=True, append_images=frames[1:]),
        ),
        "16 bits": ("png", saved(deep, "PNG")),
        "palette": ("png", saved(flat.quantize(4), "PNG")),
        "palette with transparency": ("png", saved(flat.quantize(4), "PNG", transparency=0)),
        "one bit": ("png", saved(flat.convert("1"), "PNG")),
        "grey with alpha": ("png", saved(flat.convert("LA"), "PNG")),
        "four channels": ("png", saved(flat.convert("RGBA"), "PNG")),
        "CMYK": ("jpg", saved(flat.convert("CMYK"), "JPEG")),
        "grey JPEG": ("jpg", saved(flat.convert("L"), "JPEG")),
        "progressive": ("jpg", saved(flat, "JPEG", progressive=True)),
        "one pixel": ("png", saved(Image.new("RGB", (1, 1)), "PNG")),
        "one row": ("png", saved(Image.new("RGB", (500, 1)), "PNG")),
        "GIF called PNG": ("png", saved(flat, "GIF")),
        "BMP called JPEG": ("jpg", saved(flat, "BMP")),
        "TIFF called PNG": ("png", saved(flat, "TIFF")),
        "EPS called PNG": ("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n"),
        "SVG called PNG": ("png", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>"),
        "PNG called JPEG": ("jpg", sound("png")),
        "JPEG called WebP": ("webp", jpeg),
        "a pickle": ("png", b"cos\nsystem\n(S'touch mark'\ntR."),
        "a zip": ("png", b"PK\5\6" + bytes(18)),
        "a PDF": ("jpg", b"%PDF-1.7\n%\xe2\xe3\n1 0 obj\n"),
    }


def not_files() -> dict[str, Make]:
    """What has an image's name and is none."""
    return {
        "a folder": lambda path: path.mkdir(),
        "a link to nothing": lambda path: path.symlink_to("nowhere.png"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to a folder above": lambda path: path.symlink_to(".."),
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
        "a pipe": lambda path: os.mkfifo(path),
    }


def corpus() -> dict[str, tuple[str, bytes]]:
    found = {
        f"{kind} {how}": (kind, content)
        for kind in KINDS
        for how, content in corrupted(sound(kind)).items()
    }
    return {**found, **nasty()}


@pytest.fixture(scope="module")
def few(home: Path) -> Path:
    """Five images in each of two classes."""
    root = home / "few"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (40, 40), (50 * i, 9, ord(name))).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def root(few: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(few, tmp_path / "root"))


def assert_harmless(root: Path, entrances: dict[str, Entrance], home: Path) -> None:
    before = listing(root)
    code, said = entrances["check"].enter(data__root=str(root))
    assert_lawful(code, said, (0, 1, 2))
    found, told = entrances["classifier"].enter(data__root=str(root), data__batch_size=2)
    assert_lawful(found, told, (0, 2))
    if code == 0:
        assert found == 0, told  # the check has nothing against what training refuses
    assert listing(root) == before
    assert_whole(home / "output")


@pytest.mark.parametrize(("kind", "content"), [pytest.param(*c, id=n) for n, c in corpus().items()])
def test_an_image_is_read_or_named(
    kind: str, content: bytes, root: Path, entrances: dict[str, Entrance], home: Path
) -> None:
    (root / "a" / f"x.{kind}").write_bytes(content)
    assert_harmless(root, entrances, home)


@pytest.mark.parametrize("make", cases(not_files()))
def test_what_is_no_file_is_passed_over_or_named(
    make: Make, root: Path, entrances: dict[str, Entrance], home: Path
) -> None:
    make(root / "a" / "x.png")
    assert_harmless(root, entrances, home)


@pytest.mark.parametrize(("kind", "content"), [pytest.param(*c, id=n) for n, c in corpus().items()])
def test_an_upload_is_read_or_refused(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    path.write_bytes(content)
    try:
        images = read_upload(path, Limits(1, 10**6), 32, 3)
    except InputError as error:
        assert str(error).isprintable()
        return
    assert images.shape == (1, 3, 32, 32)
    assert images.isfinite().all()


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_bytes_turned_over_are_read_or_refused(kind: str, data: st.DataObject) -> None:
    content = bytearray(sound(kind))
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    from stylex.imaging import BrokenImage, decode_whole

    try:
        decode_whole(bytes(content), "x")
    except BrokenImage as error:
        assert error.reason.isprintable()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "content"), [pytest.param(*c, id=n) for n, c in nasty().items()])
def test_the_whole_door_says_the_same(
    kind: str, content: bytes, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "a" / f"x.{kind}").write_bytes(content)
    code = code_of("check", check, [f"data.root={root}"])
    assert_lawful(code, capsys.readouterr().err, (0, 1, 2))
