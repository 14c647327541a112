"""The evaluation tab: what is read of evaluation.json, what is refused, what is drawn."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluated import write_evaluation
from test_report_page import Page

from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation import tables
from stylex.report import evaluation as read
from stylex.report.page import write_page
from stylex.report.results import read_results

WriteFolder = Callable[..., Path]
Change = Callable[[dict[str, Any]], object]
HOSTILE = "</td><script>alert(1)</script><img src=x onerror=\"alert('&')\">"


def report(folder: Path, *more: Path) -> Page:
    """Writes a page and reads it."""
    write_page(folder / "index.html", [read_results(each) for each in (folder, *more)])
    return Page((folder / "index.html").read_text())


def first_row(facts: dict[str, Any]) -> dict[str, Any]:
    """The first row of the first table of a file."""
    return facts["sections"][0]["tables"][0]["rows"][0]  # type: ignore[no-any-return]


def test_what_an_evaluation_writes_is_what_the_report_reads(tmp_path: Path) -> None:
    estimate = Estimate(0.5, 8, (0.2, 0.8))
    row = tables.Row("row", "Row", "read so", (estimate, "text", None), "pairs", "original")
    columns = tuple(tables.Column(name, name.upper(), f"of {name}") for name in "abc")
    table = tables.Table("table", "Table", "read", columns, (row,))
    section = tables.Section("section", "Why?", "because", (table,))
    facts = {
        "flagged_positions": [4, 2],
        "num_images": 8,
        "settings": {"FID_seed": 1},
        "by": [1, "x"],
    }
    tables.write_sections(tmp_path / "evaluation.json", [section], facts)
    found = read.read_evaluation(tmp_path)
    assert found is not None
    assert found.flagged == (4, 2)
    assert found.facts == (("Num images", "8"), ("Settings: FID seed", "1"), ("By", "1, x"))
    assert found.sections == (
        read.Section(
            "Why?",
            "because",
            (
                read.Table(
                    "Table",
                    "read",
                    tuple(read.Column(name.upper(), f"of {name}") for name in "abc"),
                    (read.Row("Row", "read so", row.cells, "pairs", "original"),),
                ),
            ),
        ),
    )


def test_a_search_that_was_not_evaluated_says_how_to(write_folder: WriteFolder) -> None:
    folder = write_folder()
    assert read.read_evaluation(folder) is None
    assert "run python -m stylex.evaluation FOLDER, then" in report(folder).words


def test_every_title_sentence_and_cell_is_on_the_page(write_folder: WriteFolder) -> None:
    folder = write_evaluation(write_folder())
    words = report(folder).words
    facts = json.loads((folder / "evaluation.json").read_text())
    told = 0
    for section in facts["sections"]:
        for table in section["tables"]:
            for each in (section, table, *table["columns"], *table["rows"]):
                assert each["title"] in words
                assert each["reading"] in words
            for row in table["rows"]:
                for cell in row["cells"]:
                    if isinstance(cell, str):
                        assert cell in words
                        told += 1
    assert told > 1
    assert "0.94 [0.93, 0.95] of 2,000 images" in words
    assert words.count("not to be had") == 2
    assert "Compared with: reconstruction" in words
    assert "7 flagged" not in words
    assert "2 flagged images, whose copies the classifier calls otherwise40, 300" in words
    assert "python -m stylex.evaluation" not in words


@pytest.mark.parametrize("flagged", [None, []])
def test_no_flagged_image_is_told_from_not_knowing(
    write_folder: WriteFolder, flagged: list[int] | None
) -> None:
    facts = {} if flagged is None else {"flagged_positions": flagged}
    words = report(write_evaluation(write_folder(), facts=facts)).words
    assert ("No image is flagged" in words) == (flagged is not None)


def test_only_figures_from_0_to_1_are_marked_and_where_they_lie(write_folder: WriteFolder) -> None:
    folder = write_evaluation(write_folder())
    page = report(folder)
    text = (folder / "index.html").read_text()
    tab = text[text.index('<section id="evaluation"') : text.index('<section id="study"')]
    rows = re.findall(r'<th scope="row">([^\n]+)(.*?)</tr>', tab, re.S)
    marks = {title: row.count("<svg") for title, row in rows}
    assert marks["Decisions kept"] == 1
    assert marks["Fréchet distance"] == 0
    assert marks["Flips"] == 6  # of seven methods, one of which has no figure
    assert marks["Rise of the logit"] == 0
    places = [float(c["cx"] or 0) for c in page.all("circle") if c["r"] == "2.5"]
    assert places[0] == pytest.approx(3 + 94 * 0.94, abs=0.06)


def test_names_of_an_evaluation_are_escaped(write_folder: WriteFolder) -> None:
    def poison(value: Any) -> Any:  # noqa: ANN401  any JSON value
        if isinstance(value, dict):
            return {HOSTILE if k == "seed" else k: poison(v) for k, v in value.items()}
        if isinstance(value, list):
            return [poison(each) for each in value]
        return HOSTILE if isinstance(value, str) and value else value

    folder = write_evaluation(write_folder())
    calm = report(folder)
    path = folder / "evaluation.json"
    path.write_text(json.dumps(poison(json.loads(path.read_text()))))
    page = report(folder)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    assert page.words.count(HOSTILE) > 50
    text = path.with_name("index.html").read_text()
    assert re.search(r"https?:|@import|url\(|<link|src=(?!\"data:image/|x onerror)", text) is None


def test_each_search_has_its_own_evaluation(write_folder: WriteFolder) -> None:
    one = write_evaluation(write_folder(name="one"))
    two = write_folder(name="two", source="Coat", target="Pullover")
    page = report(one, two)
    assert page.words.count("Decisions kept Share") == 1
    assert page.words.count("This search is not evaluated yet") == 1
    assert {"data-chooser": "evaluation"} in page.all("select")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    told = [t["aria-describedby"] for t in page.all("th") if "aria-describedby" in t]
    assert len(told) == 8  # seven methods and a value
    assert set(told) <= set(ids)


@pytest.mark.parametrize(
    ("value", "interval", "written"),
    [
        (0.9412, (0.921, 0.9551), "0.94 [0.92, 0.96]"),
        (0.0412, (0.0391, 0.0431), "0.041 [0.039, 0.043]"),
        (0.0, (0.0, 0.019), "0.00 [0.00, 0.02]"),
        (-0.001, (-0.4, 0.4), "0.00 [−0.40, 0.40]"),
        (-0.2, (-0.4, 0.4), "−0.20 [−0.40, 0.40]"),
        (1.0, (1.0, 1.0), "1.00 [1.00, 1.00]"),
        (31.7142, None, "31.7"),
        (0.0002, None, "0.0002"),
        (18432.0, None, "18,432"),
        (153.2, (147.1, 159.3), "153 [147, 159]"),
    ],
)
def test_a_figure_has_the_decimals_that_its_interval_leaves_certain(
    write_folder: WriteFolder,
    value: float,
    interval: tuple[float, float] | None,
    written: str,
) -> None:
    cell = Estimate(value, 12, interval).as_json()
    folder = write_evaluation(write_folder(), change=lambda f: first_row(f).update(cells=[cell]))
    assert f"{written} of 12 images" in report(folder).words


def test_a_row_of_several_columns_has_one_denominator_if_they_share_it(
    write_folder: WriteFolder,
) -> None:
    words = report(write_evaluation(write_folder())).words
    assert words.count("On 200 images in each column") == 1
    assert words.count("of 150 images") == 1
    row = read.Row("a", "", tuple(Estimate(0.5, n, None) for n in (3, 3)), "seeds", "")
    assert row.denominator == 3
    assert read.Row("a", "", row.cells[:1], "seeds", "").denominator is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.update(schema=2), r"evaluation.json' must be of schema 1, got '2'; run `py"),
        (lambda f: f.pop("facts"), "json' must have a 'facts'"),
        (lambda f: f.update(facts=[]), "facts of '.*' must be named entries"),
        (lambda f: f.update(sections=[]), "sections of '.*' must be a list of at least 1"),
        (lambda f: f["sections"][0].update(title=" "), "title of item 1 of .* is not empty"),
        (lambda f: f["sections"][0].update(title=5), "title of item 1 of sections of '.*json'"),
        (lambda f: f["sections"][0]["tables"][0].pop("reading"), "must have a 'reading'"),
        (lambda f: f["sections"][0]["tables"][0].update(columns={}), "columns of .* must be a l"),
        (lambda f: first_row(f).update(cells=["a", "b"]), "a cell for each of 1 columns, got '2'"),
        (lambda f: first_row(f).update(cells=[0.5]), "item 1 of cells of .* have a 'value'"),
        (lambda f: first_row(f)["cells"][0].update(value=True), "be a finite number, got 'True'"),
        (lambda f: first_row(f)["cells"][0].update(value=float("nan")), "finite number, got 'nan'"),
        (lambda f: first_row(f)["cells"][0].update(interval=[1, 0]), "two numbers that do not"),
        (lambda f: first_row(f)["cells"][0].update(interval=[0, 1, 2]), "two numbers that do not"),
        (lambda f: first_row(f)["cells"][0].update(num_images=-1), "whole number of at least 0"),
        (lambda f: f["facts"].update(flagged_positions=["a"]), "whole number of at least 0"),
        (lambda f: f["facts"].update(flagged_positions=3), "must be a list of at least 0"),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused_with_its_place_and_what_to_do(
    write_folder: WriteFolder, change: Change, said: str
) -> None:
    folder = write_evaluation(write_folder(), change=change)
    with pytest.raises(InputError, match=said) as caught:
        read_results(folder)
    assert str(caught.value).endswith(f"run `python -m stylex.evaluation {folder}` again")
    assert "\n" not in str(caught.value)


def test_a_broken_file_says_what_to_do(write_folder: WriteFolder) -> None:
    folder = write_folder()
    (folder / "evaluation.json").write_text("{")
    with pytest.raises(InputError, match=r"must be readable JSON.*python -m stylex\.evaluation"):
        read_results(folder)
