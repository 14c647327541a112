"""The README's first command, as users run it, and the page that it names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from browser import complaints, open_browser, requests, wait_for
from selenium.webdriver.common.by import By

from stylex.report.caveats import caveats
from stylex.report.results import read_results

ROOT = Path(__file__).parents[1]
MOST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of `python search.py`, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "result"
    done = subprocess.run(
        [sys.executable, str(ROOT / "search.py"), f"output_dir={folder}", "cpu_threads=1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.slow
def test_the_demo_leaves_pictures_for_screens_and_papers(demo: tuple[Path, str]) -> None:
    folder, said = demo
    assert "What makes the classifier say" in said
    page = folder / "index.html"
    assert said.strip().endswith(f"open {page}")
    assert page.stat().st_size < MOST_BYTES
    warned = [line[2:] for line in said.splitlines() if line.startswith("! ")]
    assert warned == caveats(read_results(folder))  # as the page has them
    assert warned
    ranks = {path.name[:2] for path in (folder / "animations").glob("[0-9]*-sweep.gif")}
    assert len(ranks) >= 8
    for name in ("attributes", "effects", "ladder", "intervals", "reconstructions"):
        for ending in ("png", "pdf"):
            assert (folder / "figures" / f"{name}.{ending}").stat().st_size > 1000


@pytest.mark.slow
def test_the_demo_s_page_turns_every_knob_without_a_complaint(
    demo: tuple[Path, str], tmp_path: Path
) -> None:
    with open_browser(tmp_path) as browser:
        requests(browser)  # of the new browser itself
        browser.get(f"file://{demo[0] / 'index.html'}")
        for name in ("class", "image"):
            browser.find_element(By.ID, f"tab-{name}").click()
            for knob in browser.find_elements(By.CSS_SELECTOR, f"#{name} [data-knob]"):
                wait_for(lambda each=knob: each.get_attribute("data-ready"), "a knob")
                script = "const k = knobs.get(arguments[0]); k.turn(0); k.turn(k.sheet.rest)"
                browser.execute_script(script, knob)
        browser.find_element(By.ID, "tab-study").click()
        browser.find_element(By.ID, "study-start").click()
        assert browser.find_elements(By.CSS_SELECTOR, "[data-candidate]")
        assert complaints(browser) == []
        asked = requests(browser)
        assert [url for url in asked if not url.startswith(("file://", "data:image/"))] == []
