"""The page in a real browser, opened from its file."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import complaints, open_browser, requests, resize, wait_for
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from torch import tensor

from stylex.estimates import share
from stylex.report.page import write_page
from stylex.report.results import Results, read_results
from stylex.report.wording import percent

WriteFolder = Callable[..., Path]
HOSTILE = "<img src=x onerror=\"document.title='broken'\">"
TABS = ("overview", "class", "image", "evaluation", "study")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("browser")) as found:
        found.saved = Path(found.capabilities["chrome"]["userDataDir"]).parent / "saved"
        yield found


def show(browser: Chrome, folder: Path, *more: Path, tab: str = "overview") -> Results:
    """Opens the page of searches' folders at one of its tabs."""
    resize(browser, 1200)
    searches = [read_results(each) for each in (folder, *more)]
    write_page(folder / "index.html", searches)
    browser.get("about:blank")
    complaints(browser)
    requests(browser)
    browser.get(f"file://{folder / 'index.html'}#tab={tab}")
    return searches[0]


def knob(browser: Chrome, rank: int = 1) -> WebElement:
    """An attribute's knob on the tab of classes, once it is drawn."""
    found = browser.find_element(By.CSS_SELECTOR, f"#attribute-0-{rank} [data-knob]")
    wait_for(lambda: found.get_attribute("data-ready"), "the knob is drawn")
    return found


def turner(knob: WebElement) -> WebElement:
    return knob.find_element(By.CSS_SELECTOR, "[data-turner]")


def drawn(browser: Chrome, knob: WebElement, view: int, kind: str = "after") -> np.ndarray:
    """Pixels of a canvas, [h w 3]."""
    canvas = knob.find_elements(By.CSS_SELECTOR, f".{kind} canvas")[view]
    script = """const c = arguments[0];
        return [c.width, ...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]"""
    side, *values = browser.execute_script(script, canvas)
    return np.array(values, dtype=np.uint8).reshape(side, side, 4)[..., :3]


def stored(frame: Any) -> np.ndarray:
    """A picture of the search as a browser has it, [h w 3]."""
    array = frame.permute(1, 2, 0).numpy()
    return np.broadcast_to(array, (*array.shape[:2], 3))


def bars(knob: WebElement) -> dict[str, str]:
    """Classes and their probabilities, as written."""
    rows = knob.find_elements(By.CSS_SELECTOR, ".bars li")
    return dict(row.text.split("\n")[:2] for row in rows)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_tab_opens_from_the_file_without_an_error_or_a_request(
    browser: Chrome, write_folder: WriteFolder, channels: int
) -> None:
    folder = write_folder(channels=channels)
    show(browser, folder)
    for name in TABS:
        browser.find_element(By.ID, f"tab-{name}").click()
        shown = [each for each in TABS if browser.find_element(By.ID, each).is_displayed()]
        assert shown == [name]
    assert complaints(browser) == []
    asked = requests(browser)
    assert asked
    assert [u for u in asked if not u.startswith(("file://", "data:image/"))] == []
    assert sum(u.startswith("file://") for u in asked) == 1


def test_a_knob_shows_the_stored_frame_and_the_stored_probabilities(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    results = show(browser, write_folder(channels=3), tab="class")
    sweep = results.attributes[0].sweep
    assert sweep is not None
    found = knob(browser)
    for key, frame in ((Keys.END, 5), (Keys.ARROW_LEFT, 4), (Keys.HOME, 0), (Keys.ARROW_RIGHT, 1)):
        turner(found).send_keys(key)
        for view in range(2):
            np.testing.assert_array_equal(
                drawn(browser, found, view), stored(sweep.frames[view, frame])
            )
            np.testing.assert_array_equal(
                drawn(browser, found, view, "before"), stored(sweep.frames[view, sweep.rest])
            )
        written = {
            k: percent(round(p, 4)) for k, p in enumerate(sweep.probabilities[0, frame].tolist())
        }
        assert bars(found) == {name: written[k] for k, name in enumerate(results.class_names)}
        tags = [t.text for t in found.find_elements(By.CSS_SELECTOR, ".after .tag")]
        assert tags == [percent(round(p, 4)) for p in sweep.probabilities[:, frame, 2].tolist()]
        said = turner(found).get_attribute("aria-valuetext")
        assert said.endswith(f"Coat {written[2]}")


@pytest.mark.parametrize("by_key", [False, True])
def test_the_bars_are_of_the_image_that_was_chosen(
    browser: Chrome, write_folder: WriteFolder, by_key: bool
) -> None:
    results = show(browser, write_folder(), tab="class")
    found = knob(browser)
    first = bars(found)
    second = found.find_elements(By.CSS_SELECTOR, ".after")[1]
    second.send_keys(Keys.ENTER) if by_key else second.click()
    sweep = results.attributes[0].sweep
    assert sweep is not None
    assert first["Coat"] == percent(float(sweep.probabilities[0, -1, 2]))
    assert bars(found)["Coat"] == percent(float(sweep.probabilities[1, -1, 2]))
    assert first["Coat"] != bars(found)["Coat"]


def test_one_knob_leaves_the_others_alone(browser: Chrome, write_folder: WriteFolder) -> None:
    show(browser, write_folder(unshown=()), tab="class")
    first, second = knob(browser, 1), knob(browser, 2)
    before = drawn(browser, second, 0)
    turner(first).send_keys(Keys.HOME)
    np.testing.assert_array_equal(drawn(browser, second, 0), before)


def test_original_is_the_unedited_copy_and_its_map_is_white(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    results = show(browser, write_folder(channels=3), tab="class")
    found = knob(browser)
    found.find_element(By.CSS_SELECTOR, "[data-reset]").click()
    pictures = results.attributes[0].pictures
    assert pictures is not None
    np.testing.assert_array_equal(drawn(browser, found, 0), stored(pictures.unchanged[0]))
    found.find_element(By.CSS_SELECTOR, "[data-map]").click()
    assert (drawn(browser, found, 0) == 255).all()


def test_the_map_is_coloured_where_pixels_change_and_nowhere_else(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    results = show(browser, write_folder(channels=3), tab="class")
    found = knob(browser)
    found.find_element(By.CSS_SELECTOR, "[data-map]").click()
    sweep = results.attributes[0].sweep
    assert sweep is not None
    change = sweep.frames[0, -1].int() - sweep.frames[0, sweep.rest].int()
    changed = (change != 0).any(dim=0).numpy()
    drawn_map = drawn(browser, found, 0).astype(int)
    assert (drawn_map[~changed] == 255).all()
    largest = change.abs().amax(dim=0).argmax()
    y, x = divmod(int(largest), change.shape[2])
    most = change[:, y, x][change[:, y, x].abs().argmax()]
    assert drawn_map[y, x].tolist() == ([178, 24, 43] if most > 0 else [33, 102, 172])


def test_flicker_alternates_and_ends_where_it_began(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder(), tab="class")
    found = knob(browser)
    button = found.find_element(By.CSS_SELECTOR, "[data-flicker]")
    values = set()
    button.click()
    assert button.get_attribute("aria-pressed") == "true"

    def both() -> bool:
        values.add(turner(found).get_attribute("value"))
        return len(values) == 2

    wait_for(both, "two frames")
    button.click()
    assert values == {"2", "5"}
    assert turner(found).get_attribute("value") == "5"


def test_tabs_are_walked_with_the_arrow_keys(browser: Chrome, write_folder: WriteFolder) -> None:
    show(browser, write_folder())
    browser.find_element(By.ID, "tab-overview").send_keys(Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.get_attribute("id") == "tab-class"
    assert browser.find_element(By.ID, "class").is_displayed()
    browser.switch_to.active_element.send_keys(Keys.END)
    assert browser.find_element(By.ID, "study").is_displayed()


def test_an_attribute_of_the_table_opens_its_card(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder())
    browser.find_element(By.CSS_SELECTOR, "table a[href='#attribute-0-3']").click()
    wait_for(lambda: browser.find_element(By.ID, "attribute-0-3").is_displayed(), "the card")


def test_another_image_turns_every_knob_of_its_tab(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    results = show(browser, write_folder(num_shown=3), tab="image")
    found = browser.find_elements(By.CSS_SELECTOR, "#image .small [data-knob]")
    assert len(found) == 3
    browser.execute_script("arguments[0].click()", browser.find_elements(By.NAME, "image-0")[2])
    for i, each in enumerate(found):
        frame = results.gallery.frames[2, i, -1]
        wait_for(lambda e=each, f=frame: (drawn(browser, e, 0) == stored(f)).all(), "its frame")


def test_the_ladder_adds_the_attributes_of_the_subset_in_its_order(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    folder = write_folder(is_one_image=True, subset=[2, 1], unshown=())
    results = show(browser, folder, tab="image")
    ladder = browser.find_element(By.CSS_SELECTOR, "[data-label=steps]")
    wait_for(lambda: ladder.get_attribute("data-ready"), "the ladder")
    turner(ladder).send_keys(Keys.ARROW_LEFT)
    assert "attributes #2 together" in turner(ladder).get_attribute("aria-valuetext")
    np.testing.assert_array_equal(drawn(browser, ladder, 0), stored(results.gallery.ladder[0, 1]))


@pytest.mark.parametrize("several", [False, True])
def test_a_hostile_class_name_is_shown_as_text(
    browser: Chrome, write_folder: WriteFolder, several: bool
) -> None:
    folder = write_folder(source=HOSTILE, target=f"{HOSTILE}2", name="one")
    more = [write_folder(source=f"{HOSTILE}2", target=HOSTILE, name="two")] if several else []
    show(browser, folder, *more)
    for name in TABS:
        browser.find_element(By.ID, f"tab-{name}").click()
    browser.find_element(By.ID, "tab-class").click()
    assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "#class .move").text
    assert f"{HOSTILE}2" in bars(knob(browser))
    assert browser.find_elements(By.CSS_SELECTOR, "img[onerror]") == []
    assert browser.title.endswith(f"{HOSTILE}2, and 1 more" if several else f"{HOSTILE}2")
    assert complaints(browser) == []


def test_a_name_is_shown_everywhere_and_saved_to_the_file_that_reports_read(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    folder = write_folder()
    results = show(browser, folder, tab="class")
    key = results.attributes[0].key
    field = browser.find_element(By.CSS_SELECTOR, "#attribute-0-1 [data-name]")
    field.send_keys("a <b>dark</b> body")
    for place in browser.find_elements(By.CSS_SELECTOR, f"[data-called='{key}']"):
        assert place.get_attribute("textContent") == "“a <b>dark</b> body”"
    browser.find_element(By.ID, "save-names").click()
    saved = browser.saved / "names.json"
    wait_for(saved.is_file, "names.json")
    assert json.loads(saved.read_text()) == {key: "a <b>dark</b> body"}
    saved.rename(folder / "names.json")
    again = show(browser, folder, tab="class")
    assert [a.given_name for a in again.attributes] == ["a <b>dark</b> body", None, None]
    assert "a <b>dark</b> body" in browser.find_element(By.CSS_SELECTOR, "#attribute-0-1 h3").text


def test_a_name_that_was_not_saved_survives_a_reload(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder(name="kept"), tab="class")

    def survives() -> bool:
        if not typed(browser, 3):  # again where a reload outran the browser writing its memory
            browser.find_element(By.CSS_SELECTOR, "#attribute-0-3 [data-name]").send_keys("sleeves")
        browser.refresh()
        return typed(browser, 3) == "sleeves"

    wait_for(survives, "the name")
    assert browser.find_element(By.ID, "save-names").is_displayed()


def typed(browser: Chrome, rank: int) -> str:
    """What stands in an attribute's field."""
    field = browser.find_element(By.CSS_SELECTOR, f"#attribute-0-{rank} [data-name]")
    return str(field.get_attribute("value"))


def test_names_of_a_newer_report_win_over_older_typing(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    folder = write_folder(name="newer")
    results = show(browser, folder, tab="class")
    first, third = (results.attributes[i].key for i in (0, 2))
    browser.find_element(By.CSS_SELECTOR, "#attribute-0-1 [data-name]").send_keys("old")
    (folder / "names.json").write_text(json.dumps({first: "new", third: "sleeves"}))
    show(browser, folder, tab="class")
    assert [typed(browser, 1), typed(browser, 3)] == ["new", "sleeves"]
    assert not browser.find_element(By.ID, "save-names").is_displayed()


def test_a_broken_memory_of_the_browser_breaks_nothing(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder(name="broken"), tab="class")
    script = "localStorage.setItem(`stylex-names:${location.pathname}`, '{broken')"
    browser.execute_script(script)
    browser.refresh()
    knob(browser)
    assert complaints(browser) == []


def test_a_name_given_in_one_search_is_that_of_the_attribute_in_all(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    one = write_folder(name="one")
    two = write_folder(name="two", source="Coat", target="Pullover")
    key = read_results(one).attributes[0].key
    (one / "names.json").write_text(json.dumps({key: "sleeves"}))
    show(browser, one, two, tab="class")
    fields = browser.find_elements(By.CSS_SELECTOR, f"[data-name='{key}']")
    assert {field.get_attribute("value") for field in fields} == {"sleeves"}
    assert len(fields) == 4


def test_the_address_names_the_tab_and_going_back_opens_the_one_before(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder())
    assert browser.execute_script("return scrollY") == 0
    browser.find_element(By.CSS_SELECTOR, ".glance").click()
    wait_for(lambda: browser.find_element(By.ID, "class").is_displayed(), "the card's tab")
    browser.back()
    wait_for(lambda: browser.find_element(By.ID, "overview").is_displayed(), "the overview")
    browser.find_element(By.ID, "tab-image").click()
    assert browser.current_url.endswith("#tab=image")


def test_ticks_stand_at_whole_strengths_wherever_the_frames_are(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    results = show(browser, write_folder(strengths=(1.6,)), tab="class")
    sweep = results.attributes[0].sweep
    assert sweep is not None
    ticks = knob(browser).find_elements(By.CSS_SELECTOR, "[data-ticks] span")
    assert [tick.text for tick in ticks] == ["−1", "0", "+1", "+1.6"]
    places = [float(tick.get_attribute("style").split("left: ")[1].split("%")[0]) for tick in ticks]
    frames = np.interp([-1, 0, 1, 1.6], sweep.positions, range(6))
    assert places == pytest.approx((100 * frames / 5).tolist(), abs=0.01)


def answer_study(browser: Chrome, wrong: int) -> int:
    """Answers every question, some comparisons wrongly; gives the number of comparisons."""
    count = 0
    while True:
        candidates = browser.find_elements(By.CSS_SELECTOR, "[data-candidate]")
        field = browser.find_elements(By.CSS_SELECTOR, "#study-room form input")
        if candidates:
            script = "const q = study.questions[study.at]; return q.candidates.indexOf(q.right)"
            right = browser.execute_script(script)
            choice = right if count >= wrong else 1 - right
            browser.find_element(By.TAG_NAME, "body").send_keys("ab"[choice])
            count += 1
        elif field:
            field[0].send_keys('=a "short", dress', Keys.ENTER)
        else:
            return count


def test_a_study_is_blind_and_exports_its_accuracy_with_the_interval(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    folder = write_folder(num_attributes=4, num_shown=4, unshown=(), num_swept=4)
    show(browser, folder, tab="study")
    browser.find_element(By.ID, "study-participant").send_keys("Ada")
    browser.find_element(By.ID, "study-start").click()
    seen = browser.find_element(By.TAG_NAME, "body").text
    assert "conv" not in seen
    assert "%" not in seen
    assert "Coat" not in seen
    assert answer_study(browser, wrong=1) == 4
    told = browser.find_element(By.ID, "study-room").text
    expected = share(tensor([True, True, True, False]))
    assert expected.interval is not None
    low, high = (percent(end) for end in expected.interval)
    assert f"3 of 4 comparisons right: 75%, 95% interval {low} to {high}" in told
    browser.find_element(By.ID, "study-save").click()
    saved = browser.saved / "answers.csv"
    wait_for(saved.is_file, "answers.csv")
    with saved.open(newline="") as file:
        *answers, summary = csv.DictReader(file)
    assert [row["kind"] for row in answers] == ["same change"] * 4 + ["words"] * 4
    assert {row["participant"] for row in answers} == {"Ada"}
    assert sum(row["correct"] == "1" for row in answers) == 3
    assert answers[-1]["answer"] == '\'=a "short", dress'
    figures = [float(summary[name]) for name in ("accuracy", "interval_low", "interval_high")]
    assert figures == pytest.approx([0.75, *expected.interval], abs=1e-4)
    saved.unlink()


def test_candidates_of_a_study_are_of_one_search_and_different_coordinates(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    more = {"num_attributes": 3, "num_shown": 4, "num_swept": 4, "unshown": ()}
    one = write_folder(name="one", **more)
    two = write_folder(name="two", source="Coat", target="Pullover", **more)
    show(browser, one, two, tab="study")
    pairs = browser.execute_script(
        """return Array.from({length: 50}, () => {
            const asked = Study.eligible(6);
            return Study.prototype.comparisons(asked).map(
                (q) => q.candidates.map((c) => [c.attribute.number, c.attribute.coordinate]));
        }).flat()"""
    )
    assert len(pairs) == 300
    assert all(a[0] == b[0] and a[1] != b[1] for a, b in pairs)


def test_other_keys_answer_nothing(browser: Chrome, write_folder: WriteFolder) -> None:
    show(browser, write_folder(num_shown=4, unshown=(), num_swept=4), tab="study")
    browser.find_element(By.ID, "study-start").click()
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys('"', "c", Keys.CONTROL, "a", Keys.CONTROL, Keys.ENTER)
    repeated = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'a', repeat: true}))"
    browser.execute_script(repeated)
    assert browser.execute_script("return study.at") == 0
    assert complaints(browser) == []
    body.send_keys("a")
    assert browser.execute_script("return study.at") == 1


def test_the_number_of_attributes_asked_about_is_kept_within_its_bounds(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder(num_shown=4, unshown=(), num_swept=4), tab="study")
    field = browser.find_element(By.ID, "study-attributes")
    field.clear()
    field.send_keys("-3")
    browser.find_element(By.ID, "study-start").click()
    assert field.get_attribute("value") == "2"
    assert browser.execute_script("return study.questions.length") == 4


def test_a_new_study_asks_before_it_drops_answers(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder(num_shown=4, unshown=(), num_swept=4), tab="study")
    browser.find_element(By.ID, "study-start").click()
    browser.find_element(By.TAG_NAME, "body").send_keys("a")
    browser.find_element(By.XPATH, "//button[text()='Stop the study']").click()
    browser.find_element(By.ID, "study-start").click()
    browser.switch_to.alert.dismiss()
    assert browser.execute_script("return study.rows.length") == 1
    browser.find_element(By.ID, "study-save").click()
    saved = browser.saved / "answers.csv"
    wait_for(saved.is_file, "answers.csv")
    saved.unlink()
    browser.find_element(By.ID, "study-start").click()
    assert browser.execute_script("return study.rows.length") == 0


def test_more_than_four_words_are_asked_for_again(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder(num_shown=4, unshown=(), num_swept=4), tab="study")
    browser.find_element(By.ID, "study-start").click()
    while browser.find_elements(By.CSS_SELECTOR, "[data-candidate]"):
        browser.find_element(By.TAG_NAME, "body").send_keys("a")
    field = browser.find_element(By.CSS_SELECTOR, "#study-room form input")
    field.send_keys("one two three four five", Keys.ENTER)
    assert "one to four words, not 5" in browser.find_element(By.ID, "study-room").text


def test_a_study_without_enough_images_says_so(browser: Chrome, write_folder: WriteFolder) -> None:
    show(browser, write_folder(), tab="study")
    browser.find_element(By.ID, "study-start").click()
    assert "needs at least two attributes" in browser.find_element(By.ID, "study-room").text


@pytest.mark.parametrize("name", TABS)
def test_a_phone_shows_every_tab_without_scrolling_sideways(
    browser: Chrome, write_folder: WriteFolder, name: str
) -> None:
    folder = write_folder(
        source="A very long name of a class, longer than a phone is wide", num_shown=6
    )
    show(browser, folder, tab=name)
    resize(browser, 360)
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= 360


def test_dark_and_light_follow_the_computer_until_the_button_is_pressed(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    show(browser, write_folder(name="themes"))

    def ground() -> int:
        script = "return getComputedStyle(document.documentElement).backgroundColor"
        return int(browser.execute_script(script).strip("rgb()").split(",")[0])

    def prefer(name: str) -> None:
        wish = {"features": [{"name": "prefers-color-scheme", "value": name}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wish)
        browser.refresh()

    prefer("dark")
    dark = ground()
    prefer("light")
    assert dark < 60 < 200 < ground()
    browser.find_element(By.ID, "theme").click()
    assert ground() == dark
    browser.execute_script("localStorage.clear()")


@pytest.mark.parametrize("name", TABS)
def test_a_screen_reader_finds_a_name_for_everything_that_can_be_used(
    browser: Chrome, write_folder: WriteFolder, name: str
) -> None:
    show(browser, write_folder(), tab=name)
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = (
        "button",
        "slider",
        "textbox",
        "radio",
        "tab",
        "image",
        "combobox",
        "spinbutton",
        "link",
    )
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert len(named) > 4
    assert [role for role, said in named if not said.strip()] == []


def test_several_searches_share_a_page_with_a_choice_between_them(
    browser: Chrome, write_folder: WriteFolder
) -> None:
    one = write_folder(name="one")
    two = write_folder(name="two", source="Coat", target="Pullover")
    show(browser, one, two, tab="class")
    select = browser.find_element(By.CSS_SELECTOR, "[data-chooser=class]")
    assert [o.text for o in select.find_elements(By.TAG_NAME, "option")] == [
        "Pullover → Coat",
        "Coat → Pullover",
    ]
    select.send_keys("C")
    wait_for(lambda: browser.find_element(By.ID, "attribute-1-1").is_displayed(), "the second")
    assert not browser.find_element(By.ID, "attribute-0-1").is_displayed()
    assert complaints(browser) == []
