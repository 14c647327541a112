"""A report as a whole: which files it reads, writes, removes and refuses."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from stylex.artifacts import read_tensors, write_tensors
from stylex.errors import InputError
from stylex.progress import quiet
from stylex.report.report import Rendering, write_report
from stylex.report.results import read_results

WriteFolder = Callable[..., Path]


PLAIN = Rendering(("gif",), 4, "row", False, 800, True, ("png", "pdf"), 2)


def pictures(folder: Path) -> list[str]:
    """All written pictures, and whatever was left beside them."""
    return sorted(
        path.relative_to(folder).as_posix()
        for place in ("animations", "figures")
        for path in (folder / place).iterdir()
    )


def write(folder: Path) -> None:
    """Writes a folder's report into it."""
    write_report([folder], folder, PLAIN, quiet)


def test_every_shown_attribute_gets_its_animations_and_all_get_the_figures(
    write_folder: WriteFolder,
) -> None:
    folder = write_folder(num_attributes=3, unshown=(2,))
    write(folder)
    charts = ["attributes", "dose-response", "effects", "image-40", "intervals"]
    figures = [*charts, "ladder", "reconstructions"]
    assert pictures(folder) == [
        *(f"animations/{n}.gif" for n in ("01-sweep", "01", "03-sweep", "03", "together")),
        *(f"figures/{name}.{ending}" for name in figures for ending in ("pdf", "png")),
    ]
    assert (folder / "index.html").is_file()


def test_pictures_of_an_earlier_selection_go_and_other_files_stay(
    write_folder: WriteFolder,
) -> None:
    folder = write_folder(num_attributes=3, unshown=())
    write(folder)
    (folder / "figures" / "mine.png").write_text("kept")
    write_folder(num_attributes=2, unshown=(1,))
    write(folder)
    found = pictures(folder)
    assert [n for n in found if n.startswith("animations")] == [
        f"animations/{name}.gif" for name in ("02-sweep", "02", "together")
    ]
    assert "figures/mine.png" in found


def test_a_report_written_twice_is_the_same(write_folder: WriteFolder) -> None:
    folder = write_folder(channels=3, num_attributes=2)
    write(folder)
    first = {name: (folder / name).read_bytes() for name in [*pictures(folder), "index.html"]}
    write(folder)
    assert {name: (folder / name).read_bytes() for name in first} == first


def test_progress_counts_the_animations_and_the_figures(write_folder: WriteFolder) -> None:
    seen = []

    def progress(items: Iterable[Any], what: str) -> Iterable[Any]:
        seen.append((len(list(items)), what))
        return items

    folder = write_folder(num_attributes=2, unshown=())
    write_report([folder], folder, PLAIN, progress)
    assert seen == [(5, "animations"), (7, "figures")]


def test_attributes_that_nothing_shows_still_make_a_report(write_folder: WriteFolder) -> None:
    folder = write_folder(num_attributes=2, unshown=(1, 2))
    write(folder)
    assert [n for n in pictures(folder) if "anim" in n] == ["animations/together.gif"]


@pytest.mark.parametrize("name", ["attributes.json", "metrics.json", "provenance.json"])
def test_a_missing_file_is_named(write_folder: WriteFolder, name: str) -> None:
    folder = write_folder()
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"a report needs '{name}', got no"):
        read_results(folder)
    assert not (folder / "index.html").exists()


def test_missing_pictures_are_named(write_folder: WriteFolder) -> None:
    folder = write_folder()
    (folder / "counterfactuals" / "03.safetensors").unlink()
    with pytest.raises(InputError, match=r"picture file of the search.*03\.safetensors"):
        read_results(folder)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "must be readable JSON"), ("[1]", "must hold named entries")]
)
def test_a_broken_file_is_refused(write_folder: WriteFolder, text: str, message: str) -> None:
    folder = write_folder()
    (folder / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_results(folder)


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        ("attributes.json", "shown_strength"),
        ("attributes.json", "sufficiency"),
        ("metrics.json", "agreement"),
        ("provenance.json", "seed"),
    ],
)
def test_a_missing_entry_is_named(write_folder: WriteFolder, file: str, entry: str) -> None:
    folder = write_folder()
    facts = json.loads((folder / file).read_text())
    del facts[entry]
    (folder / file).write_text(json.dumps(facts))
    with pytest.raises(InputError, match=f"{file}' must have a '{entry}', got none"):
        read_results(folder)


@pytest.mark.parametrize(("strength", "got"), [(None, "one that cannot be read"), (..., "none")])
def test_pictures_without_their_strength_are_refused(
    write_folder: WriteFolder, strength: object, got: str
) -> None:
    folder = write_folder()
    facts = json.loads((folder / "attributes.json").read_text())
    first = facts["attributes"][0]
    first["shown_strength"] = strength
    if strength is ...:
        del first["shown_strength"]
    (folder / "attributes.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match=f"must have a 'shown_strength', got {got}"):
        read_results(folder)


def test_an_entry_of_another_kind_is_refused(write_folder: WriteFolder) -> None:
    folder = write_folder()
    facts = json.loads((folder / "metrics.json").read_text()) | {"agreement": 0.5}
    (folder / "metrics.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="'agreement', got one that cannot be read"):
        read_results(folder)


@pytest.mark.parametrize("change", ["float", "missing", "probabilities"])
def test_pictures_of_another_form_are_refused(write_folder: WriteFolder, change: str) -> None:
    folder = write_folder()
    path = folder / "counterfactuals" / "01.safetensors"
    tensors, _ = read_tensors(path, "pictures")
    if change == "float":
        tensors["changed"] = tensors["changed"].float()
    elif change == "missing":
        del tensors["indices"]
    else:
        tensors["probabilities"] = torch.zeros(2, 2)
    write_tensors(path, tensors)
    message = "must have 'indices'" if change == "missing" else "that fit the other tensors, got"
    with pytest.raises(InputError, match=message):
        read_results(folder)


@pytest.mark.parametrize(
    ("file", "tensor", "value"),
    [
        ("01-sweep", "positions", torch.tensor([-1.0, -0.5, 0.0, 0.5, 0.25, 2.5])),
        ("01-sweep", "positions", torch.tensor([-1.0, -0.5, 0.1, 0.5, 1.25, 2.5])),
        ("01-sweep", "probabilities", torch.zeros(2, 6, 4)),
        ("gallery", "ladder", torch.zeros(3, 4, 1, 16, 16, dtype=torch.uint8)),
        ("gallery", "frames", torch.zeros(3, 2, 5, 1, 32, 32, dtype=torch.uint8)),
        ("reconstructions", "images", torch.zeros(3, 2, 32, 32, dtype=torch.uint8)),
    ],
)
def test_sweeps_and_galleries_of_another_form_are_refused(
    write_folder: WriteFolder, file: str, tensor: str, value: torch.Tensor
) -> None:
    folder = write_folder()
    path = folder / "counterfactuals" / f"{file}.safetensors"
    tensors, _ = read_tensors(path, "pictures")
    tensors[tensor] = value
    write_tensors(path, tensors)
    with pytest.raises(InputError, match=r"must (be .* that fit|rise and have 0)"):
        read_results(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be readable JSON.*save it from the page again"),
        ('{"a": 3}', "must be a text of at most 60 letters, got '3' for 'a'"),
        (json.dumps({"a": "x" * 61}), "must be a text of at most 60 letters"),
    ],
)
def test_names_that_are_none_are_refused(
    write_folder: WriteFolder, text: str, message: str
) -> None:
    folder = write_folder()
    (folder / "names.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_results(folder)
