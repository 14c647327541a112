"""The evaluation tab in a real browser, opened from its file."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import complaints, open_browser, requests, resize, wait_for
from evaluated import write_evaluation
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from stylex.report.page import write_page
from stylex.report.results import read_results

WriteFolder = Callable[..., Path]
HOSTILE = "<img src=x onerror=\"document.title='broken'\">"
LONG = "A very long name of a row, longer than a phone is wide"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def show(browser: Chrome, folder: Path, *more: Path, tab: str = "evaluation") -> None:
    """Opens the page of searches' folders at one of its tabs."""
    resize(browser, 1200)
    write_page(folder / "index.html", [read_results(each) for each in (folder, *more)])
    browser.get("about:blank")
    complaints(browser)
    requests(browser)
    browser.get(f"file://{folder / 'index.html'}#tab={tab}")


def scrollers(browser: Chrome) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, "#evaluation .scroll")


def scrolls(browser: Chrome, element: WebElement) -> bool:
    script = "return arguments[0].scrollWidth > arguments[0].clientWidth"
    return bool(browser.execute_script(script, element))


def test_the_tab_is_reached_with_the_keyboard_and_asks_for_nothing(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_evaluation(write_folder()), tab="image")
    browser.find_element(By.ID, "tab-image").send_keys(Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.get_attribute("id") == "tab-evaluation"
    told = browser.find_element(By.ID, "evaluation").text
    assert "Are the copies true?" in told
    assert complaints(browser) == []
    asked = requests(browser)
    assert sum(u.startswith("file://") for u in asked) == 1
    assert [u for u in asked if not u.startswith(("file://", "data:image/"))] == []


@pytest.mark.parametrize("width_px", [360, 390, 1200])
def test_seven_methods_scroll_in_their_own_table_beside_a_head_that_stays(
    browser: Chrome, write_folder: WriteFolder, width_px: int
) -> None:
    def lengthen(found: dict[str, Any]) -> None:
        found["sections"][0]["tables"][0]["rows"][0]["title"] = LONG
        found["sections"][1]["tables"][0]["rows"][0]["title"] = LONG

    show(browser, write_evaluation(write_folder(), change=lengthen))
    resize(browser, width_px)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width_px
    one, seven = scrollers(browser)
    assert not scrolls(browser, one)
    assert scrolls(browser, seven) == (width_px < 1200)
    head = seven.find_element(By.CSS_SELECTOR, "tbody th")
    before = head.rect["x"]
    browser.execute_script("arguments[0].scrollLeft = 1e6", seven)
    assert head.rect["x"] == pytest.approx(before, abs=1)
    last = seven.find_elements(By.CSS_SELECTOR, "tbody tr:nth-child(2) td")[-1]
    assert last.rect["x"] >= head.rect["x"] + head.rect["width"] - 1
    assert last.rect["x"] + last.rect["width"] <= width_px


def test_a_screen_reader_finds_the_tables_their_heads_and_what_columns_mean(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_evaluation(write_folder()))
    nodes = [
        (
            n["role"]["value"],
            n.get("name", {}).get("value", ""),
            n.get("description", {}).get("value"),
        )
        for n in browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        if not n["ignored"]
    ]
    assert ("tab", "Evaluation") in [node[:2] for node in nodes]
    assert [name for role, name, _ in nodes if role == "table"] == ["All images", "Seven methods"]
    assert ("region", "Seven methods") in [node[:2] for node in nodes]
    assert ("columnheader", "StylEx", "StylEx is read so.") in nodes
    heads = [name for role, name, _ in nodes if role == "rowheader"]
    assert len(heads) == 7
    assert heads[0].startswith("Decisions kept Share of something.")


def test_an_image_whose_copy_is_called_otherwise_is_flagged_at_every_knob(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_evaluation(write_folder()), tab="class")
    marks = {}
    for rank in (1, 3):
        knob = browser.find_element(By.CSS_SELECTOR, f"#attribute-0-{rank} [data-knob]")
        wait_for(lambda k=knob: k.get_attribute("data-ready"), "the knob is drawn")
        words = [c.text for c in knob.find_elements(By.CSS_SELECTOR, ".before figcaption")]
        caption = knob.find_element(By.CSS_SELECTOR, "[data-caption]").text
        marks[rank] = (words, "Flagged: the classifier calls the copy otherwise" in caption)
    assert marks == {
        1: (["image 100", "image 101"], False),
        3: (["image 300 · flagged", "image 301"], True),
    }


def test_each_search_shows_its_own_evaluation(browser: Chrome, write_folder: WriteFolder) -> None:
    one = write_evaluation(write_folder(name="one"))
    two = write_folder(name="two", source="Coat", target="Pullover")
    show(browser, one, two)
    tab = browser.find_element(By.ID, "evaluation")
    assert "Seven methods" in tab.text
    browser.find_element(By.CSS_SELECTOR, "[data-chooser=evaluation]").send_keys("C")
    wait_for(lambda: "python -m stylex.evaluation FOLDER" in tab.text, "the second search")
    assert "Seven methods" not in tab.text
    assert complaints(browser) == []


def test_hostile_names_are_shown_as_text(browser: Chrome, write_folder: WriteFolder) -> None:
    def poison(found: dict[str, Any]) -> None:
        found["facts"][HOSTILE] = HOSTILE
        for section in found["sections"]:
            for named in (section, *section["tables"], *section["tables"][0]["columns"]):
                named.update(title=HOSTILE, reading=HOSTILE)
            section["tables"][0]["rows"][2]["cells"][0] = HOSTILE

    show(browser, write_evaluation(write_folder(), change=poison))
    assert browser.find_element(By.ID, "evaluation").text.count(HOSTILE) > 20
    assert browser.find_elements(By.CSS_SELECTOR, "img[onerror]") == []
    assert "broken" not in browser.title
    assert complaints(browser) == []
