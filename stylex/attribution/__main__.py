"""Door: other explanations of a classifier. `python -m stylex.attribution method=all`."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from stylex.door import image_set, open_door
from stylex.errors import InputError
from stylex.progress import Bars

if TYPE_CHECKING:
    from stylex.attribution.subject import Subject

NEEDED = {"data": "images", "progress": "bars"}  # what a method is given if it asks for it


def attribution(config: dict[str, Any], raw: DictConfig) -> None:
    """Runs the methods on the images and writes the page."""
    if config["num_images"] < 1:
        raise InputError(f"num_images must be at least 1, got {config['num_images']}")
    if config["search"] is not None and not Path(config["search"]).is_dir():
        raise InputError(
            f"search must be a finished search's folder, got '{config['search']}'; run search.py "
            "first"
        )
    from stylex.artifacts import check_writable

    output = _output(config)
    check_writable(output)

    import torch
    from hydra.utils import instantiate

    from stylex.attribution.gallery import Gallery

    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    subject = _subject(config, raw)
    bars = Bars()
    gallery = Gallery(output, subject.images, subject.captions, subject.facts)
    for name, settings in bars(raw.method.items(), "methods"):
        method = instantiate(settings, _convert_="all")
        gallery.hang(str(name), _bound(method, subject, bars))
    gallery.close()
    _draw(config, output)


def _output(config: dict[str, Any]) -> Path:
    if config["output_dir"] is not None:
        return Path(config["output_dir"])
    return Path("runs") / "attribution" if config["search"] is None else _within(config["search"])


def _within(search: str) -> Path:
    from stylex.report.wing import WING_FOLDER

    return Path(search) / WING_FOLDER


def _subject(config: dict[str, Any], raw: DictConfig) -> "Subject":
    """The classifier and the images, from a search or from `data` and `classifier`."""
    from stylex.attribution.subject import chosen
    from stylex.classifier.frozen import build_classifier
    from stylex.gan.compute import choose_device

    device = choose_device(config["device"], 0)
    if config["search"] is None:
        data = image_set(raw.data, "test")
        classifier = build_classifier(config["classifier"], data.class_names)
        return chosen(classifier.to(device), data, config)

    from stylex.evaluation.subject import read_subject
    from stylex.report.results import read_results

    folder = Path(config["search"])
    found = read_subject(folder, None, device)
    data = image_set(OmegaConf.create(found.config["data"]), found.config["split"])
    shown = list(read_results(folder).gallery.indices[: config["num_images"]])
    given = config["images"] if config["images"] != "demo" else shown
    return chosen(found.model.classifier, data, {**config, "images": given})


def _bound(method: Callable[..., Any], subject: "Subject", bars: Bars) -> Callable[[], Any]:
    """A method with all its arguments."""
    asked = inspect.signature(method).parameters
    offered = {"data": subject.data, "progress": bars}
    given = {name: value for name, value in offered.items() if name in asked}
    return functools.partial(method, subject.classifier, subject.images, subject.targets, **given)


def _draw(config: dict[str, Any], output: Path) -> None:
    from stylex.report.page import write_page
    from stylex.report.results import read_results
    from stylex.report.wing import read_wing, write_wing_page

    write_wing_page(output / "index.html", read_wing(output))
    print(f"open {output / 'index.html'}")
    if config["search"] is not None and output == _within(config["search"]):
        page = Path(config["search"]) / "index.html"
        write_page(page, [read_results(Path(config["search"]))])
        print(f"open {page}, tab Other methods")


if __name__ == "__main__":
    open_door("attribution", attribution)
