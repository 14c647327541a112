"""Door: other explanations of a classifier. `python -m stylex.attribution method=all`."""

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from stylex.attribution.ranges import check_methods
from stylex.door import image_set, open_door
from stylex.errors import InputError
from stylex.progress import Bars
from stylex.ranges import COUNT, check_ranges
from stylex.report.__main__ import arguments

if TYPE_CHECKING:
    from stylex.attribution.subject import Subject

LISTS = ("method",)


def attribution(config: dict[str, Any], raw: DictConfig) -> None:
    """Runs the methods on the images and writes the page."""
    check_ranges(config, {"num_images": COUNT})
    check_methods(config["method"])
    searched = _searched(config)
    from stylex.artifacts import check_writable

    output = _output(config, searched)
    check_writable(output)

    import torch
    from hydra.utils import instantiate

    from stylex.attribution.gallery import Gallery

    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    subject = _subject(config, raw, searched)
    bars = Bars()
    gallery = Gallery(output, subject.images, subject.captions, subject.facts)
    several, refusals = len(raw.method) > 1, {}
    for name, settings in bars(raw.method.items(), "methods"):
        method = instantiate(settings, _convert_="all")
        refusal = gallery.hang(
            str(name), _bound(method, subject, bars, config["trust"]), refusable=several
        )
        if refusal:
            refusals[name] = refusal
    if len(refusals) == len(raw.method):
        raise InputError(next(iter(refusals.values())))
    gallery.close()
    for name, refusal in refusals.items():
        print(f"left out {name}: {refusal}")
    _draw(searched, output)


def _searched(config: dict[str, Any]) -> Path | None:
    """The search's folder that was typed, if one was."""
    folders = config["folders"] or []
    if len(folders) > 1:
        raise InputError(f"the wing takes one search's folder, got {len(folders)}; give one")
    if not folders:
        return None
    folder = Path(str(folders[0]))
    if not folder.is_dir():
        raise InputError(
            f"the wing takes a finished search's folder, got no folder '{folder}'; run search.py "
            "first"
        )
    return folder


def _output(config: dict[str, Any], searched: Path | None) -> Path:
    if config["output_dir"] is not None:
        return Path(config["output_dir"])
    return Path("runs") / "attribution" if searched is None else _within(searched)


def _within(search: Path) -> Path:
    from stylex.report.wing import WING_FOLDER

    return search / WING_FOLDER


def _subject(config: dict[str, Any], raw: DictConfig, searched: Path | None) -> "Subject":
    """The classifier and the images, from a search or from `data` and `classifier`."""
    from stylex.attribution.subject import chosen
    from stylex.classifier.frozen import build_classifier
    from stylex.gan.compute import choose_device

    device = choose_device(config["device"], 0)
    if searched is None:
        data = image_set(raw.data, "test")
        classifier = build_classifier(config["classifier"], data.class_names)
        return chosen(classifier.to(device), data, config)

    from stylex.evaluation.subject import read_subject
    from stylex.report.results import read_results

    found = read_subject(searched, None, device, trust=config["trust"])
    data = image_set(OmegaConf.create(found.config["data"]), found.config["split"])
    shown = list(read_results(searched).gallery.indices[: config["num_images"]])
    given = config["images"] if config["images"] != "demo" else shown
    return chosen(found.model.classifier, data, {**config, "images": given})


def _bound(
    method: Callable[..., Any], subject: "Subject", bars: Bars, trust: bool
) -> Callable[[], Any]:
    """A method with all its arguments."""
    asked = inspect.signature(method).parameters
    offered = {"data": subject.data, "progress": bars, "trust": trust}
    given = {name: value for name, value in offered.items() if name in asked}
    return functools.partial(method, subject.classifier, subject.images, subject.targets, **given)


def _draw(searched: Path | None, output: Path) -> None:
    from stylex.report.page import write_page
    from stylex.report.results import read_results
    from stylex.report.wing import read_wing, write_wing_page

    write_wing_page(output / "index.html", read_wing(output))
    print(f"open {output / 'index.html'}")
    if searched is not None and output == _within(searched):
        page = searched / "index.html"
        write_page(page, [read_results(searched)])
        print(f"open {page}, tab Other methods")


if __name__ == "__main__":
    sys.argv[1:] = arguments(sys.argv[1:], LISTS)
    open_door("attribution", attribution)
