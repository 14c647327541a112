"""`python -m stylex.report`: finished searches drawn anew, from the command line."""

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from stylex.door import open_door
from stylex.report.__main__ import arguments, report

WriteFolder = Callable[..., Path]


@pytest.fixture(autouse=True)
def _left_as_it_was() -> Iterator[None]:
    """A door changes how warnings are shown."""
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)


def opened(monkeypatch: pytest.MonkeyPatch, *typed: object) -> int:
    """Opens the door as the command line does; gives the exit code."""
    monkeypatch.setattr(sys, "argv", ["report", *arguments([str(text) for text in typed])])
    try:
        open_door("report", report)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def names(folder: Path, place: str) -> list[str]:
    return sorted(path.name for path in (folder / place).iterdir())


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        (["a"], ['folders=["a"]']),
        (["a b", "c,d", "inset=true"], ["inset=true", 'folders=["a b","c,d"]']),
        (['q"u'], ['folders=["q\\"u"]']),
        (["a", "format=gif,mp4"], ["format=[gif,mp4]", 'folders=["a"]']),
        (["a", "format=[gif]", "figures=pdf"], ["format=[gif]", "figures=[pdf]", 'folders=["a"]']),
        (["--help"], ["--help"]),
    ],
)
def test_folders_and_formats_are_typed_as_people_type_them(
    typed: list[str], read: list[str]
) -> None:
    assert arguments(typed) == read


def test_a_finished_search_is_drawn_in_the_formats_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    write_folder: WriteFolder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_folder(unshown=(2,))
    typed = (folder, "format=webp,apng", "figures=pdf", "columns=1", "layout=square")
    assert opened(monkeypatch, *typed) == 0
    assert names(folder, "animations") == sorted(
        f"{name}.{ending}"
        for name in ("01", "01-sweep", "03", "03-sweep", "together")
        for ending in ("webp", "apng")
    )
    assert {Path(name).suffix for name in names(folder, "figures")} == {".pdf"}
    assert f"open {folder / 'index.html'}" in capsys.readouterr().out


def test_an_animation_has_at_most_as_many_panels_as_asked_for(
    monkeypatch: pytest.MonkeyPatch, write_folder: WriteFolder
) -> None:
    folder = write_folder(unshown=(2,), num_shown=6, num_swept=4)
    widths = {}
    for panels in (3, 4, 6):
        assert opened(monkeypatch, folder, f"panels={panels}", "figures=[]") == 0
        for name in ("01", "01-sweep"):
            with Image.open(folder / "animations" / f"{name}.gif") as file:
                widths[name, panels] = file.width
    assert widths["01", 3] < widths["01", 4] < widths["01", 6]
    assert widths["01-sweep", 3] < widths["01-sweep", 4] == widths["01-sweep", 6]


def test_what_the_last_report_wrote_goes_and_other_files_stay(
    monkeypatch: pytest.MonkeyPatch, write_folder: WriteFolder
) -> None:
    folder = write_folder(unshown=(2,))
    assert opened(monkeypatch, folder, "format=gif", "figures=[]") == 0
    mine = folder / "animations" / "mine.gif"
    mine.write_text("kept")
    assert opened(monkeypatch, folder, "format=webp", "figures=[]", "sweep=false") == 0
    assert names(folder, "animations") == ["01.webp", "03.webp", "mine.gif", "together.webp"]


def test_a_report_s_record_cannot_make_it_remove_a_file_elsewhere(
    monkeypatch: pytest.MonkeyPatch, write_folder: WriteFolder
) -> None:
    folder = write_folder(unshown=(2,))
    record = folder / "report.json"
    far = ["../precious", "attributes.json", "animations/../attributes.json"]
    record.write_text(json.dumps({"files": far}))
    (folder.parent / "precious").write_text("kept")
    assert opened(monkeypatch, folder, "format=[]", "figures=[]") == 0
    assert (folder / "attributes.json").is_file()
    assert (folder.parent / "precious").is_file()


def test_names_that_people_gave_are_in_page_and_captions(
    monkeypatch: pytest.MonkeyPatch, write_folder: WriteFolder
) -> None:
    folder = write_folder(unshown=(2,))
    key = json.loads((folder / "attributes.json").read_text())["attributes"][0]
    given = {f"{key['name']} → {key['direction']}": "long sleeves"}
    (folder / "names.json").write_text(json.dumps(given))
    assert opened(monkeypatch, folder, "format=gif", "figures=[]") == 0
    with Image.open(folder / "animations" / "01.gif") as file:
        assert "“long sleeves”" in file.info["comment"].decode()
    assert "“long sleeves”" in (folder / "index.html").read_text()


def test_a_folder_may_have_an_equals_sign_in_its_name(
    monkeypatch: pytest.MonkeyPatch, write_folder: WriteFolder
) -> None:
    folder = write_folder(name="rate=0.1", unshown=(2,))
    assert opened(monkeypatch, folder, "format=[]", "figures=[]") == 0
    assert (folder / "index.html").is_file()


def test_names_beside_the_page_of_several_searches_count_in_it(
    monkeypatch: pytest.MonkeyPatch, write_folder: WriteFolder, tmp_path: Path
) -> None:
    one = write_folder(name="one", unshown=())
    two = write_folder(name="two", source="Coat", target="Pullover", unshown=())
    both = tmp_path / "both"
    both.mkdir()
    key = json.loads((one / "attributes.json").read_text())["attributes"][1]
    given = {f"{key['name']} → {key['direction']}": "long sleeves"}
    (both / "names.json").write_text(json.dumps(given))
    assert opened(monkeypatch, one, two, f"output_dir={both}", "format=[]", "figures=[]") == 0
    assert "“long sleeves”" in (both / "index.html").read_text()


def test_two_searches_of_one_model_share_a_page_and_a_figure(
    monkeypatch: pytest.MonkeyPatch, write_folder: WriteFolder, tmp_path: Path
) -> None:
    one = write_folder(name="one", unshown=())
    two = write_folder(name="two", source="Coat", target="Pullover", unshown=())
    both = tmp_path / "both"
    typed = (one, two, f"output_dir={both}", "format=gif", "figures=png", "sweep=false")
    assert opened(monkeypatch, *typed) == 0
    assert "pullover-to-coat-01.gif" in names(both, "animations")
    assert "coat-to-pullover-01.gif" in names(both, "animations")
    assert "attributes.png" in names(both, "figures")
    assert "effects-coat-to-pullover.png" in names(both, "figures")
    assert not (one / "animations").exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["{missing}"], "a report is of a search's folder, got no folder"),
        ([], "a report is of a search's folder, got none; python -m stylex.report FOLDER"),
        (["{empty}"], "a report needs 'attributes.json', got no"),
        (["{folder}", "format=bmp"], "got 'bmp'"),
        (["{folder}", "figures=svg"], "got 'svg'"),
        (["{folder}", "columns=3"], "columns of figures must be 1 (3.3 in) or 2 (6.9 in), got 3"),
        (["{folder}", "frame_ms=100"], "must be from 600 to 1000 milliseconds, got 100"),
        (["{folder}", "layout=round"], "layout must be row or square, got 'round'"),
        (["{folder}", "panels=0"], "report.panels must be at least 1, got 0"),
        (["{folder}", "{other}"], "searches on one page must be of one model"),
        (["{folder}", "{stronger}"], "must be of one strength, got"),
        (["{folder}", "panels=1,2"], "panels must be one value, got '1,2'"),
        (["{folder}", "{folder}"], "ask different questions, got Pullover → Coat twice"),
        (["{folder}", "formt=gif"], "got 'formt'; the nearest one is 'format'"),
    ],
)
def test_a_mistake_is_one_sentence_and_draws_nothing(
    monkeypatch: pytest.MonkeyPatch,
    write_folder: WriteFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    typed: list[str],
    said: str,
) -> None:
    folder, other = write_folder(unshown=()), write_folder(unshown=(), name="other")
    facts = json.loads((other / "provenance.json").read_text())
    (other / "provenance.json").write_text(json.dumps(facts | {"model": "another"}))
    stronger = write_folder(unshown=(), name="stronger", source="Coat", target="Pullover")
    facts = json.loads((stronger / "attributes.json").read_text())
    (stronger / "attributes.json").write_text(json.dumps(facts | {"strength": 2.0}))
    (tmp_path / "empty").mkdir()
    places = {"folder": folder, "other": other, "stronger": stronger, "empty": tmp_path / "empty"}
    texts = [text.format(**places, missing=tmp_path / "missing") for text in typed]
    assert opened(monkeypatch, *texts) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert said in error
    assert not (folder / "animations").exists()
    assert not (folder / "figures").exists()
    assert not (folder / "index.html").exists()
