"""How large a report's page is, and how soon headless Chromium paints it from its file.

    python -m benchmarks.page [FOLDER] [--json PATH] [--rounds N]

The first contentful paint is the browser's own figure, counted from the navigation's start; each
round opens the page in a browser profile that has never seen it. Needs chromedriver and the
package selenium (`pip install -e '.[test]'`).
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import measurement
from benchmarks.measurement import Row

FOLDER = Path("results/fashion-32/most-confused-pair")  # of `python search.py`
MOST_BYTES, MOST_PAINT_MS = 5_000_000, 1000.0
SWITCHES = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)
PAINT = """return performance.getEntriesByType("paint")
    .filter(entry => entry.name === "first-contentful-paint").map(entry => entry.startTime)[0]"""


def first_paint_ms(page: Path) -> float:
    """First contentful paint of a page in a new browser, in milliseconds."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import WebDriverWait

    options = webdriver.ChromeOptions()
    with tempfile.TemporaryDirectory() as profile:
        for switch in (*SWITCHES, f"user-data-dir={profile}"):
            options.add_argument(f"--{switch}")
        browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            browser.get(f"file://{page.resolve()}")
            found = WebDriverWait(browser, 30).until(lambda b: b.execute_script(PAINT))
            return float(found)
        finally:
            browser.quit()


def measure(page: Path, rounds: int) -> Row:
    """Size and paint of a page, with what they ought to be."""
    paints = [first_paint_ms(page) for _ in range(rounds)]
    return {
        "bytes": page.stat().st_size,
        "most_bytes": MOST_BYTES,
        "first_paint_ms": statistics.median(paints),
        "slowest_paint_ms": max(paints),
        "most_paint_ms": MOST_PAINT_MS,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the figures; 1 if one is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="of a search")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    page = chosen.folder / "index.html"
    if not page.is_file():
        parser.error(f"a page must be there, got no '{page}'; run python search.py first")
    if shutil.which("chromedriver") is None:
        parser.error("a browser must be there, got no chromedriver; install chromium-driver")
    found = measure(page, chosen.rounds)
    print(measurement.table([found], {name: name.replace("_", " ") for name in found}))
    measurement.write(chosen.json, {**measurement.facts(torch.device("cpu")), "page": found})
    fits = found["bytes"] <= MOST_BYTES and found["first_paint_ms"] <= MOST_PAINT_MS
    return 0 if fits else 1


if __name__ == "__main__":
    raise SystemExit(main())
