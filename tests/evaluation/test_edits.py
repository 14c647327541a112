"""Saved edits, read back by method; files that are none are refused."""

import json
from pathlib import Path

import pytest
import torch

from stylex.artifacts import write_tensors
from stylex.errors import InputError
from stylex.evaluation.edits import read_edits

FACTS = {"source": "", "target": "b", "class_names": '["a", "b"]', "strength": "1.5"}


def write(folder: Path, method: str, *without: str) -> None:
    pictures = torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2)
    tensors = {
        "positions": torch.tensor([4, 9]),
        "images": pictures,
        "reconstructions": pictures + 1,
        "edited": torch.stack((pictures + 2, pictures + 3)),
        "together": torch.stack((pictures + 2, pictures + 4)),
    }
    facts = {"names": json.dumps(["one", "zwölf"]), **FACTS}
    write_tensors(
        folder / "edits" / f"{method}.safetensors",
        {name: value for name, value in tensors.items() if name not in without},
        {name: value for name, value in facts.items() if name not in without},
    )


def test_edits_are_read_by_method_with_the_searchs_own_first(tmp_path: Path) -> None:
    for method in ("ganalyze", "stylex", "random"):
        write(tmp_path, method)
    found = read_edits(tmp_path)
    assert list(found) == ["stylex", "ganalyze", "random"]
    own = found["stylex"]
    assert (own.method, own.names, own.strength) == ("stylex", ("one", "zwölf"), 1.5)
    assert (own.source, own.target, own.class_names) == (None, "b", ("a", "b"))
    assert own.positions.tolist() == [4, 9]
    assert [int(pixels[0, 0, 0, 0]) for pixels in (*own.edited, *own.together)] == [2, 3, 2, 4]


def test_a_folder_without_edits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got none in .*search\.num_edited above 0"):
        read_edits(tmp_path)


@pytest.mark.parametrize("lost", ["positions", "together", "names", "strength"])
def test_a_file_that_lacks_something_is_refused(tmp_path: Path, lost: str) -> None:
    write(tmp_path, "stylex", lost)
    with pytest.raises(InputError, match=f"must hold {lost}, got none in .*search again"):
        read_edits(tmp_path)
