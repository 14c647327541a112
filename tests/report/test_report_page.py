"""The page: every number, every picture, nothing from elsewhere."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from stylex.artifacts import read_tensors, write_tensors
from stylex.estimates import Estimate
from stylex.report import wording
from stylex.report.caveats import caveats
from stylex.report.page import write_page
from stylex.report.results import read_results
from stylex.report.sprites import Classes, sheet

WriteFolder = Callable[..., Path]
UNSHOWN = (
    "No pictures: fewer than 3 of the images tried show it at any strength tried from ×1 to ×2.5."
)
VOID = {"meta", "img", "br", "link", "input", "hr", "line", "circle", "polyline", "polygon"}


class Page(HTMLParser):
    """Reads a page and remembers its tags and its text; fails where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []
        self.words = " ".join(self.words.split())

    def handle_starttag(  # noqa: D102  as in HTMLParser
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(  # noqa: D102  as in HTMLParser
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(  # noqa: D102  as in HTMLParser
        self, tag: str
    ) -> None:
        assert self.open.pop() == tag

    def handle_data(  # noqa: D102  as in HTMLParser
        self, data: str
    ) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


def report(folder: Path) -> Page:
    """Writes a folder's page and reads it."""
    write_page(folder / "index.html", [read_results(folder)])
    return Page((folder / "index.html").read_text())


def test_the_page_holds_every_number_of_every_attribute(write_folder: WriteFolder) -> None:
    folder = write_folder(num_attributes=5)
    page = report(folder)
    for attribute in read_results(folder).attributes:
        for text in (
            f"{attribute.rank} {attribute.key}",
            wording.logits(attribute.effect.value),
            wording.logits_interval(attribute.effect),
            f"6 of 24 images, {wording.percent_interval(attribute.flips)}",
            f"{attribute.layer_name} (layer {attribute.layer}) {attribute.channel}",
            *map(wording.logits, attribute.effects),
        ):
            assert text in page.words
    assert "75% of the images that the classifier called Pullover: 18 of 24" in page.words
    assert "500 test images" in page.words
    assert "Decisions kept by the copies88%85% to 91%; 500 test images" in page.words
    assert "0.400" in page.words
    assert "×2.5" in page.words
    for fact in ("pretrained/test", "c0ffee00", "c1a551f1", "da7ada7a", "11", "torch 2.0"):
        assert fact in page.words


def test_the_page_needs_nothing_but_itself(write_folder: WriteFolder) -> None:
    folder = write_folder(num_attributes=3)
    page = report(folder)
    text = (folder / "index.html").read_text()
    assert re.search(r"https?:|@import|url\(|<link|src=(?!\"data:image/)", text) is None
    assert all(image["alt"] for image in page.all("img"))
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))
    (policy,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_class_names_are_escaped(write_folder: WriteFolder) -> None:
    folder = write_folder(source='<script>"&', target="<b>bold</b>")
    page = report(folder)
    assert len(page.all("script")) == 5  # ours
    assert page.all("b") == []
    assert "What makes the classifier say <b>bold</b>" in page.words
    assert '<script>"& → <b>bold</b>' in page.words


def test_the_other_labels_that_move_most_are_told_with_their_names_escaped(
    write_folder: WriteFolder,
) -> None:
    folder = write_folder(num_attributes=1)
    assert "Other labels" not in report(folder).words
    path = folder / "attributes.json"
    facts = json.loads(path.read_text())
    facts["attributes"][0]["other_labels"] = [
        {"name": name, "logit": figure, "probability": figure}
        for name, figure in (
            (name, {"value": value, "num_images": 24, "interval": [-1.0, 1.0]})
            for name, value in (("<b>Young</b>", 0.123), ("Bald", -0.05), ("Hat", 0.01), ("Tie", 0))
        )
    ]
    path.write_text(json.dumps(facts))
    page = report(folder)
    assert "Other labels<b>Young</b> +12.3, Bald −5.0, Hat +1.0mean change" in page.words
    assert page.all("b") == []


def test_an_attribute_without_pictures_says_why(write_folder: WriteFolder) -> None:
    page = report(write_folder(unshown=(2,)))
    assert page.words.count(UNSHOWN) == 1


@pytest.mark.parametrize("is_one_image", [False, True])
def test_pictures_tell_their_own_strength(write_folder: WriteFolder, is_one_image: bool) -> None:
    folder = write_folder(strengths=(2.5, 1.75, 1.0), unshown=(2,), is_one_image=is_one_image)
    first, second, third = read_results(folder).attributes
    page = report(folder)
    assert f"{first.key} ×2.5" in page.words
    assert f"{second.key} ×1" in page.words  # the search's
    assert f"{third.key} ×1" in page.words
    assert wording.attribute_caption(first).endswith(" · strength ×2.5")
    assert (
        "of those tried from ×1 to ×2.5, at which the probability of Coat rises most" in page.words
    )


def test_no_pictures_have_no_strength_but_those_that_were_tried(write_folder: WriteFolder) -> None:
    folder = write_folder(num_attributes=2, unshown=(1, 2))
    assert [a.shown_strength for a in read_results(folder).attributes] == [None, None]
    assert report(folder).words.count(UNSHOWN) == 2


@pytest.mark.parametrize("strength", [2.5, 3.0])
def test_no_range_is_told_where_only_one_strength_was_tried(
    write_folder: WriteFolder, strength: float
) -> None:
    folder = write_folder()
    facts = json.loads((folder / "attributes.json").read_text()) | {"strength": strength}
    (folder / "attributes.json").write_text(json.dumps(facts))
    page = report(folder)
    assert "an attribute’s pictures are drawn at strength ×2.5." in page.words
    assert "No pictures: fewer than 3 of the images tried show it at strength ×2.5." in page.words


def test_no_source_reads_as_any_other_class(write_folder: WriteFolder) -> None:
    page = report(write_folder(source=None))
    assert "any other class → Coat" in page.words
    assert "None" not in page.words


def test_the_chart_tells_its_numbers_to_who_does_not_see_it(write_folder: WriteFolder) -> None:
    page = report(write_folder(num_attributes=4))
    label = next(s["aria-label"] for s in page.all("svg") if s.get("role") == "img") or ""
    assert [f"{k}: 75% (55% to 88%)" in label for k in range(1, 6)] == [True] * 4 + [False]


@pytest.mark.parametrize("is_one_image", [True, False])
def test_one_attribute_is_not_called_many(write_folder: WriteFolder, is_one_image: bool) -> None:
    folder = write_folder(
        num_attributes=1,
        unshown=(),
        is_one_image=is_one_image,
        subset=[1] if is_one_image else None,
    )
    page = report(folder)
    assert "attributes together" not in page.words
    assert "#1 alone" in page.words


def test_one_image_is_told_without_shares_and_intervals(write_folder: WriteFolder) -> None:
    page = report(write_folder(is_one_image=True, subset=[1, 2], unshown=()))
    assert "image 7 · Pullover → Coat" in page.words
    assert (
        "Changing 2 attributes together, #1 and #2, turns its decision into Coat (43%)"
        in page.words
    )
    assert "#1 and #2: yes" in page.words
    assert "interval" not in page.words
    assert "not used to pick" not in page.words


def test_one_image_that_no_attributes_flip_says_so(write_folder: WriteFolder) -> None:
    page = report(write_folder(is_one_image=True, unshown=()))
    told = "Changing all 3 attributes together does not turn its decision into Coat"
    assert told in page.words
    assert "#1 to #3: no" in page.words


def test_percentages_never_round_to_none_or_all() -> None:
    shares = (0.0, 0.0001, 0.004, 0.005, 0.5, 0.994, 0.9951, 0.99999, 1.0)
    assert [wording.percent(s) for s in shares] == [
        "0%", "<1%", "<1%", "0%", "50%", "99%", ">99%", ">99%", "100%",
    ]  # fmt: skip


def test_what_was_not_measured_is_not_a_number() -> None:
    nothing = Estimate(None, 0, None)
    assert wording.percent(nothing.value) == wording.logits(nothing.value) == "not measured"
    assert wording.count(nothing) == "not measured"
    assert wording.percent_interval(nothing) == wording.logits_interval(nothing) == ""
    assert wording.logits(-0.5) == "−0.50"


@pytest.mark.parametrize(
    ("rank", "response", "random"),
    [
        (1, "rises with strength, then flattens", "more than random weights react (q = 0.004)"),
        (2, "rises with strength", "more than random weights react (q = 0.004)"),
        (3, "strongest at ×1, weaker beyond", "no more than random weights (q = 0.3)"),
    ],
)
def test_the_evidence_of_an_attribute_is_said_in_words(
    write_folder: WriteFolder, rank: int, response: str, random: str
) -> None:
    folder = write_folder()
    results = read_results(folder)
    attribute = results.attributes[rank - 1]
    assert wording.response(attribute) == response
    assert wording.against_random(attribute) == random
    assert wording.rank_range(attribute) == f"{rank} to {rank + 1}"
    page = report(folder).words
    assert response in page
    assert random in page


def test_the_page_says_what_the_selection_cost_and_how_sure_it_is(
    write_folder: WriteFolder,
) -> None:
    folder = write_folder()
    said = wording.selection(read_results(folder))
    assert said == (
        "Found with 4,000 generator passes, 8.0 times fewer than measuring every edit; no other "
        "edit’s mean gain exceeds a picked one’s by more than 0.03 in log-probability (95% bound)."
    )
    assert said in report(folder).words


def change_facts(folder: Path, file: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a file of the search."""
    facts = json.loads((folder / file).read_text())
    change(facts)
    (folder / file).write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("metrics.json", lambda f: f["agreement"].update(value=0.9), "For 10% of the images"),
        ("metrics.json", lambda f: f["reconstruction_l1"].update(value=0.2), "differ from their"),
        (
            "attributes.json",
            lambda f: f["sufficiency"]["3"].update(value=0.25),
            "turn the decision of 25% of the images only: they explain it in part",
        ),
        (
            "attributes.json",
            lambda f: f["sufficiency"]["3"].update(value=0.02),
            "turn the decision of 2% of the images only: they hardly explain it",
        ),
        (
            "attributes.json",
            lambda f: f["attributes"][1]["effect"].update(interval=[-0.1, 0.2]),
            "#2: no effect alone is certain (the interval of its mean reaches 0). Picked for",
        ),
        (
            "attributes.json",
            lambda f: f["attributes"][0]["evidence"].update(q=0.06),
            "#1 of the attributes: classifiers with shuffled weights",
        ),
        (
            "attributes.json",
            lambda f: f["attributes"][2]["evidence"]["extreme"]["near"].update(value=0.002),
            "#3: moved to a value that a single reference image takes",
        ),
        (
            "attributes.json",
            lambda f: f["attributes"][0]["effect"].update(num_images=19),
            "Effects are measured on 19 images only",
        ),
        ("attributes.json", lambda f: f["selection"].update(num_unstable=1), "1 image was left"),
        (
            "attributes.json",
            lambda f: f["attributes"][0].update(shown=None, shown_strength=None),
            "#1: not shown",
        ),
    ],
)
def test_each_weak_point_is_said_where_it_is_one_and_nowhere_else(
    write_folder: WriteFolder, file: str, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    folder = write_folder(unshown=())
    change_facts(folder, "metrics.json", lambda f: f["agreement"].update(value=0.96))
    change_facts(folder, "metrics.json", lambda f: f["reconstruction_l1"].update(value=0.1))
    for rank in range(3):
        change_facts(
            folder,
            "attributes.json",
            lambda f, r=rank: f["attributes"][r]["evidence"].update(q=0.05),
        )
    assert caveats(read_results(folder)) == []
    change_facts(folder, file, change)
    (text,) = caveats(read_results(folder))
    assert said in text
    assert text in report(folder).words


def test_an_image_whose_copy_is_called_otherwise_is_said_first_of_its_own_points(
    write_folder: WriteFolder,
) -> None:
    folder = write_folder(is_one_image=True, unshown=(), subset=[1])
    path = folder / "counterfactuals" / "gallery.safetensors"
    tensors, _ = read_tensors(path, "pictures")
    tensors["image_probabilities"] = torch.tensor([[0.9, 0.1, 0.0]])
    write_tensors(path, tensors)
    said = (
        "The classifier calls this image Sandal, but its copy, which is explained here, Pullover."
    )
    assert any(said in text for text in caveats(read_results(folder)))
    assert "changed" in report(folder).words


def test_what_holds_for_all_searches_is_said_once_and_the_rest_with_its_search(
    write_folder: WriteFolder,
) -> None:
    one = write_folder(name="one", unshown=())
    two = write_folder(name="two", source="Coat", target="Pullover", unshown=())
    change_facts(two, "attributes.json", lambda f: f["sufficiency"]["3"].update(value=0.25))
    write_page(one / "index.html", [read_results(one), read_results(two)])
    words = Page((one / "index.html").read_text()).words
    assert words.count("the classifier decides otherwise about") == 1
    assert "Coat → Pullover. All attributes together turn the decision of 25%" in words


def test_a_sheet_too_large_for_its_format_is_drawn_smaller() -> None:
    frames = torch.zeros(130, 2, 1, 128, 128, dtype=torch.uint8)
    probabilities = torch.full((130, 2, 2), 0.5)
    found = sheet(frames, probabilities, Classes((0, 1), 0), range(130), (0.0, 1.0))
    assert found["side"] == 64
    assert found["full"] == 128
