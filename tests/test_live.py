"""The live explorer: what it lets in, what it says, and the whole page in a real browser."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pictured
import pytest
import torch
from browser import complaints, open_browser, requests, wait_for
from PIL import Image
from selenium.webdriver import Chrome

from stylex.errors import InputError
from stylex.imaging import to_uint8
from stylex.live import __main__ as door
from stylex.live import panels
from stylex.live.uploads import Limits, read_upload
from stylex.model import StylEx
from stylex.progress import quiet
from stylex.search.crew import Member
from stylex.search.exploration import Exploration, Subject
from stylex.search.results import Explanation, Settings
from stylex.types import Images

ROOT = Path(__file__).parents[1]
LIMITS = Limits(megabytes=1, pixels=10_000)
NASTY = ["<img src=x onerror=alert(1)>", "${alert(2)} {{value}}", "</script><b>star"]


# Uploads


def refused(path: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_upload(path, LIMITS, 32, 1)
    assert str(path.parent) not in str(caught.value)  # nobody is told where files lie


def test_an_upload_becomes_an_image_of_the_models_form(tmp_path: Path) -> None:
    Image.new("RGB", (100, 60), (255, 255, 255)).save(tmp_path / "a.jpg")
    image = read_upload(tmp_path / "a.jpg", LIMITS, 32, 1)
    assert image.shape == (1, 1, 32, 32)
    assert image.dtype == torch.float32
    assert bool((image == 1).all())


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no image at all" + bytes(1_200_000))
    refused(path, "must have at most 1 MB, got 1.1 MB; give a smaller one")


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (101, 100)).save(path)

    def decoded(*_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    refused(path, "at most 10,000 pixels, got 101 x 100; give a smaller one")


@pytest.mark.parametrize("most", [20, 40])  # PIL warns above its limit, and stops at twice that
def test_an_image_that_pillow_itself_fears_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    Image.new("L", (10, 5)).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", most)
    refused(tmp_path / "a.png", "at most 10,000 pixels, got far more")


@pytest.mark.parametrize("name", ["notes.txt", "notes.png", "cut.png", "moving.gif"])
def test_what_is_no_image_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    random = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(random).save(tmp_path / "whole.png")
    content = {"cut.png": (tmp_path / "whole.png").read_bytes()[:400]}
    path.write_bytes(content.get(name, b"<svg>"))
    if name == "moving.gif":
        Image.fromarray(random).save(path)
    refused(path, f"a readable PNG, JPEG or WebP file, got '{name}'; give another one")


@pytest.mark.parametrize(("name", "given"), [("max_upload_mb", (0, 1)), ("max_pixels", (1, -1))])
def test_limits_let_something_in(name: str, given: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=f"{name} must be above 0"):
        Limits(*given)


# What it says


NAMES = ("circle", "square", "star")


@pytest.fixture
def exploration(tiny_model: StylEx, tiny_images: Images) -> Exploration:
    settings = Settings(num_attributes=3, num_random=0)
    return Exploration(Member(tiny_model, tiny_images, {"batch_size": None}), settings)


@pytest.fixture
def same(exploration: Exploration, tiny_images: Images) -> Subject:
    """An image called circle, and so is its copy."""
    subject = exploration.see(tiny_images[:1])
    given = replace(subject.given, probabilities=(0.7, 0.2, 0.1))
    return replace(subject, given=given, copy=replace(subject.copy, probabilities=(0.6, 0.3, 0.1)))


@pytest.fixture
def other(same: Subject) -> Subject:
    """An image called circle, whose copy is called square."""
    return replace(same, copy=replace(same.copy, probabilities=(0.3, 0.6, 0.1)))


@pytest.fixture
def found(exploration: Exploration, tiny_images: Images, tmp_path: Path) -> Explanation:
    subject = exploration.see(tiny_images[:1])
    return exploration.explain(subject, NAMES[subject.next_class], tmp_path, quiet)


def test_the_judgement_names_both_decisions_and_warns_where_they_differ(
    same: Subject, other: Subject
) -> None:
    agreeing, differing = (panels.judgement(NAMES, subject) for subject in (same, other))
    assert "calls your image circle (70%) and its copy circle (60%)" in agreeing
    assert "warning" not in agreeing
    assert "your image circle (70%), but the model’s copy of it square (60%)" in differing
    assert "explains the copy, which the classifier calls square" in differing
    assert 'class="sx-message sx-warning" role="alert"' in differing


@pytest.mark.parametrize(
    ("subset", "said"),
    [
        ((2,), "Knob #2 alone, at 1, changes the copy from circle to star."),
        ((3, 1), "Knobs #3 and #1 together, at 1, change the copy from circle to star."),
        (None, "The 3 knobs found do not change the copy from circle to star, all at 1."),
    ],
)
def test_the_finding_says_which_knobs_change_the_decision_and_of_what(
    found: Explanation, same: Subject, other: Subject, subset: tuple[int, ...] | None, said: str
) -> None:
    found = replace(found, source="circle", target="star", subset=subset)
    assert said in panels.finding(NAMES, same, found, 1.0)
    warned = panels.finding(NAMES, other, found, 1.0)
    assert said in warned
    assert "the copy alone: the classifier calls your image circle." in warned


def test_only_an_edit_that_changes_the_decision_is_marked(same: Subject) -> None:
    changed = replace(same.copy, probabilities=(0.1, 0.2, 0.7))
    less = replace(same.copy, probabilities=(0.5, 0.4, 0.1))
    assert "sx-changed" in panels.pictures(NAMES, same, changed)
    assert "sx-changed" not in panels.pictures(NAMES, same, less)
    assert "sx-changed" not in panels.pictures(NAMES, same, None)
    assert "<img" not in panels.pictures(NAMES, None, None)


def test_of_many_classes_the_likeliest_are_shown_and_the_others_counted(same: Subject) -> None:
    names = [f"class {k:02d}" for k in range(30)]
    chances = [0.01] * 29 + [0.71]
    given = replace(same.given, probabilities=tuple(chances))
    copy = replace(same.copy, probabilities=tuple(reversed(chances)))
    page = panels.chances(names, replace(same, given=given, copy=copy), None, "class 29")
    assert page.count("<tr") == panels.MOST_CLASSES + 1
    assert "class 00" in page
    assert "class 29" in page
    assert "18 classes" in page


def test_a_caption_names_the_turned_knobs_alone(found: Explanation) -> None:
    caption = panels.caption(found, (1.5, 0.0, -0.5))
    first, second, third = (attribute.name for attribute in found.attributes)
    assert f"#1 {first} → {found.attributes[0].direction} at 1.5" in caption
    assert f"#3 {third} → {found.attributes[2].direction} at −0.5" in caption
    assert second not in caption


def test_an_animation_shows_the_copy_before_and_after_with_the_targets_probability(
    same: Subject,
) -> None:
    edited = replace(same.copy, image=-same.copy.image, probabilities=(0.1, 0.2, 0.7))
    pictures = panels.compared(same, edited, target=2)
    assert torch.equal(pictures.unchanged, to_uint8(same.copy.image))
    assert torch.equal(pictures.changed, to_uint8(edited.image))
    assert (pictures.before, pictures.after) == ((0.1,), (0.7,))


def test_class_names_are_text_wherever_they_stand(
    exploration: Exploration, same: Subject, other: Subject, found: Explanation
) -> None:
    exploration.model.classifier.class_names = tuple(NASTY)
    found = replace(found, source=NASTY[0], target=NASTY[2])
    for part in (
        panels.heading(exploration, NASTY[0]),
        panels.judgement(NASTY, other),
        panels.finding(NASTY, other, found, 1.0),
        panels.pictures(NASTY, same, None),
        panels.chances(NASTY, same, None, NASTY[0]),
        panels.message("error", *NASTY),
    ):
        assert "&lt;img src=x" in part
        assert "<img src=x" not in part
        assert "<b>star" not in part


# The door


def test_without_gradio_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError) as caught:
        door.check_gradio()
    said = "the live explorer needs gradio, got none; pip install -e '.[live]'"
    assert str(caught.value) == said


def test_a_port_must_be_free_and_a_host_ones_own() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"port must be free, got {port}"):
            door.check_address("127.0.0.1", port)
    with pytest.raises(InputError, match="port must be at least 1, got 0"):
        door.check_address("127.0.0.1", 0)
    with pytest.raises(InputError, match="host must be an address of this computer, got 'x.inva"):
        door.check_address("x.invalid", 7860)


def test_only_loopback_addresses_are_this_computers_to_itself() -> None:
    assert all(map(door.is_own, ("127.0.0.1", "127.0.0.2", "::1", "localhost")))
    assert not any(map(door.is_own, ("0.0.0.0", "192.168.0.2", "::", "example.org")))


def test_it_explains_itself_without_torch() -> None:
    code = (
        "import sys, runpy; sys.argv = ['live', '--help']\n"
        "try: runpy.run_module('stylex.live', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'gradio') if m in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "max_upload_mb: 10" in done.stdout
    assert done.stdout.endswith("[]\n")


# The page, in a browser


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as one:
        port: int = one.getsockname()[1]
    return port


@pytest.fixture
def server(
    tmp_path: Path, tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of an explorer whose temporary files lie in tmp_path / "temporary"."""
    pytest.importorskip("gradio", reason="needs pip install -e '.[live]'")
    with monkeypatch.context() as patched:
        patched.setattr(pictured, "CLASSES", NASTY)
        model = pictured.model_of_pictures(tiny_config)
    given = pictured.arguments(model, tiny_config, tmp_path)
    kept = [a for a in given if not a.startswith(("source", "target"))]
    port, temporary = free_port(), tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "stylex.live", *kept, f"port={port}"]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        for _ in range(600):
            if "\nopen http" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert f"open http://127.0.0.1:{port}" in log.read_text(), log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(20)
    assert code == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert list(temporary.iterdir()) == []  # removed at exit


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    with open_browser(tmp_path) as found:
        found.implicitly_wait(20)
        yield found


@pytest.mark.slow
def test_in_a_browser_an_image_is_explained_edited_and_downloaded(
    browser: Chrome, server: str, tmp_path: Path
) -> None:
    def until(condition: Callable[[], Any]) -> None:
        wait_for(condition, "an answer of the page")

    def text(place: str) -> str:
        return str(browser.find_element("id", place).text)

    def edited() -> str:
        return str(
            browser.find_elements("css selector", "#sx-pictures img")[2].get_attribute("src")
        )

    def upload(path: Path) -> None:
        browser.find_element("css selector", "#sx-upload input[type=file]").send_keys(str(path))

    own = tmp_path / "own.png"
    Image.fromarray(to_uint8(pictured.pictures())[4, 0].numpy()).save(own)
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    browser.get(server)

    upload(broken)
    until(lambda: "a readable PNG, JPEG or WebP file, got 'broken.png'" in text("sx-message"))
    browser.find_element("css selector", "#sx-upload button[aria-label='Clear']").click()
    until(lambda: "Drop an image" in text("sx-message"))

    upload(own)
    until(lambda: "calls your image" in text("sx-message"))
    unedited, chances = edited(), text("sx-chances")
    assert all(name in chances for name in NASTY)
    browser.find_element("id", "sx-ask").click()
    until(lambda: browser.find_element("id", "sx-knob-1").is_displayed())
    until(lambda: "px conv" in text("sx-knob-1"))
    assert "the copy from" in text("sx-message")
    assert edited() == unedited

    knob = browser.find_element("css selector", "#sx-knob-1 input[type=range]")
    knob.send_keys("\ue014" * 30)  # arrow to the right
    until(lambda: edited() != unedited and text("sx-chances") != chances)
    browser.find_element("id", "sx-save").click()
    gif = tmp_path / "saved" / "stylex-edit.gif"
    until(gif.is_file)
    with Image.open(gif) as animation:
        assert animation.n_frames == 2
    browser.find_element("id", "sx-reset").click()
    until(lambda: edited() == unedited)

    check_that_nothing_went_elsewhere(browser, server)
    (folder,) = (tmp_path / "temporary").iterdir()
    assert list(folder.rglob("own.png"))  # uploads go nowhere else


def check_that_nothing_went_elsewhere(browser: Chrome, server: str) -> None:
    """No request left the computer, no error was told, and no class name became an element."""
    assert not browser.find_elements("css selector", "img[src=x]")
    # Gradio's page asks how far an upload is, also when a small one has arrived already.
    told = [m for m in complaints(browser, "SEVERE") if "/upload_progress" not in m]
    assert [message for message in told if not message.endswith(" Response")] == []
    asked = requests(browser)
    assert any(url.startswith(server) for url in asked)
    own = (server, "data:", "blob:", "chrome:")
    assert [url for url in asked if not url.startswith(own)] == []
