"""The notebooks run from top to bottom, and what they keep is light and shows no computer."""

import base64
import io
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 300_000
SLOW = {name: pytest.mark.slow for name in ("search", "attribution")}  # half a minute
PATHS = re.compile(r"/(home|root|tmp|usr|opt|mnt|work|Users|var)/|[A-Z]:\\\\")  # of a computer

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(cell: NotebookNode) -> list[str]:
    found = [output.get("data", {}).get("image/png") for output in cell.outputs]
    return [png for png in found if png is not None]


def kinds(notebook: NotebookNode) -> list[set[str]]:
    """By cell; prints may come in one piece or in several."""
    return [{output.output_type for output in cell.outputs} for cell in code(notebook)]


def test_the_notebooks_were_seen() -> None:
    assert {path.stem for path in NOTEBOOKS} >= {"data_flow", "search", "attribution"}


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=SLOW.get(p.stem, ()), id=p.stem) for p in NOTEBOOKS]
)
def test_a_notebook_runs_and_gives_the_kinds_of_outputs_that_it_keeps(path: Path) -> None:
    stored, executed = read(path), read(path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    client = NotebookClient(executed, timeout=240, resources={"metadata": {"path": str(ROOT)}})
    client.execute(env=environment)  # raises where a cell does
    assert kinds(executed) == kinds(stored)
    for found, kept in zip(code(executed), code(stored), strict=True):
        assert len(pictures(found)) == len(pictures(kept))


@every_notebook
def test_a_notebook_is_light(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES


@every_notebook
def test_a_notebook_was_stored_after_a_run_from_top_to_bottom(path: Path) -> None:
    cells = code(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    streams = [output for cell in cells for output in cell.outputs if "name" in output]
    assert {output.name for output in streams} == {"stdout"}


@every_notebook
def test_every_picture_that_a_notebook_draws_is_kept_and_can_be_seen(path: Path) -> None:
    drawing = [
        cell for cell in code(read(path)) if re.search(r"^(plt\.)?show\(", cell.source, re.M)
    ]
    assert len(drawing) >= 5
    for cell in drawing:
        (png,) = pictures(cell)
        with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
            low, high = picture.convert("L").getextrema()
            assert high - low > 100
            assert picture.width >= 300


@every_notebook
def test_a_notebook_shows_no_computer(path: Path) -> None:
    notebook = read(path)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert dict(notebook.metadata.language_info) == {"name": "python"}
    for cell in notebook.cells:
        assert dict(cell.metadata) == {}
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    text = nbformat.writes(notebook)
    assert PATHS.search(text) is None
    assert str(ROOT) not in text
