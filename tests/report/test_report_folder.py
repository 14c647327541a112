"""A report as a whole: which files it reads, writes, removes and refuses."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from stylex.artifacts import read_tensors, write_tensors
from stylex.errors import InputError
from stylex.report.report import write_report

WriteFolder = Callable[..., Path]


def quiet(items: Iterable[Any], what: str) -> Iterable[Any]:
    """No progress bar."""
    return items


def pictures(folder: Path) -> list[str]:
    """All written pictures, and whatever was left beside them."""
    return sorted(
        path.relative_to(folder).as_posix()
        for place in ("animations", "figures")
        for path in (folder / place).iterdir()
    )


def test_every_shown_attribute_gets_a_gif_and_a_figure(write_folder: WriteFolder) -> None:
    folder = write_folder(num_attributes=3, unshown=(2,))
    write_report(folder, quiet)
    assert pictures(folder) == [
        *(f"animations/{name}.gif" for name in ("01", "03", "together")),
        *(f"figures/{name}.png" for name in ("01", "03", "overview", "together")),
    ]
    assert (folder / "index.html").is_file()


def test_pictures_of_an_earlier_selection_go_and_other_files_stay(
    write_folder: WriteFolder,
) -> None:
    folder = write_folder(num_attributes=4, unshown=())
    write_report(folder, quiet)
    (folder / "figures" / "mine.png").write_text("kept")
    write_folder(num_attributes=2, unshown=(1,))
    write_report(folder, quiet)
    assert pictures(folder) == [
        *(f"animations/{name}.gif" for name in ("02", "together")),
        *(f"figures/{name}.png" for name in ("02", "mine", "overview", "together")),
    ]


def test_a_report_written_twice_is_the_same(write_folder: WriteFolder) -> None:
    folder = write_folder(channels=3, num_attributes=2)
    write_report(folder, quiet)
    first = {name: (folder / name).read_bytes() for name in [*pictures(folder), "index.html"]}
    write_report(folder, quiet)
    assert {name: (folder / name).read_bytes() for name in first} == first


def test_progress_counts_the_attributes(write_folder: WriteFolder) -> None:
    seen = []

    def progress(items: Iterable[Any], what: str) -> Iterable[Any]:
        seen.append((len(list(items)), what))
        return items

    write_report(write_folder(num_attributes=4), progress)
    assert seen == [(4, "pictures")]


def test_attributes_that_nothing_shows_still_make_a_report(write_folder: WriteFolder) -> None:
    folder = write_folder(num_attributes=2, unshown=(1, 2))
    write_report(folder, quiet)
    assert (folder / "figures" / "overview.png").is_file()


@pytest.mark.parametrize("name", ["attributes.json", "metrics.json", "provenance.json"])
def test_a_missing_file_is_named(write_folder: WriteFolder, name: str) -> None:
    folder = write_folder()
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"a report needs '{name}', got no"):
        write_report(folder, quiet)
    assert not (folder / "index.html").exists()


def test_missing_pictures_are_named(write_folder: WriteFolder) -> None:
    folder = write_folder()
    (folder / "counterfactuals" / "03.safetensors").unlink()
    with pytest.raises(InputError, match=r"picture file of the search.*03\.safetensors"):
        write_report(folder, quiet)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "must be readable JSON"), ("[1]", "must hold named entries")]
)
def test_a_broken_file_is_refused(write_folder: WriteFolder, text: str, message: str) -> None:
    folder = write_folder()
    (folder / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=message):
        write_report(folder, quiet)


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
        write_report(folder, quiet)


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
        write_report(folder, quiet)


def test_an_entry_of_another_kind_is_refused(write_folder: WriteFolder) -> None:
    folder = write_folder()
    facts = json.loads((folder / "metrics.json").read_text()) | {"agreement": 0.5}
    (folder / "metrics.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="'agreement', got one that cannot be read"):
        write_report(folder, quiet)


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
        write_report(folder, quiet)
