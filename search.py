"""Door 2: a checkpoint and images → attributes, pictures, report; `--help` lists every key."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stylex.door import open_door
from stylex.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from stylex.model import StylEx
    from stylex.search.results import Explanation


def search(config: dict[str, Any], raw: DictConfig) -> None:
    """Searches, measures, and writes everything into one folder."""
    from stylex.artifacts import check_writable
    from stylex.model import model_folder, read_config

    checkpoint = model_folder(Path(config["checkpoint"]))
    folder = Path(config["output_dir"] or default_folder(config))
    check_writable(folder)
    check_classes(config, read_config(checkpoint)["class_names"])

    import torch
    from hydra.utils import instantiate

    from stylex.classifier.frozen import build_classifier
    from stylex.gan.compute import precision
    from stylex.model import load
    from stylex.report.report import write_report
    from stylex.search.explanation import explain

    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    device = choose_device(config["device"])
    model = load(checkpoint)
    if "classifier" in config:
        model.classifier = build_classifier(config["classifier"], model.class_names)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = config["ops"]["tf32"]
    model = model.to(device)
    for network in (model.encoder, model.generator):
        network.set_precision(precision(config["ops"], torch.device(device)))
    data = instantiate(raw.data, split=config["split"])
    check_fit(model, data, checkpoint)
    made_by = {"data": data.fingerprint}
    num_coordinates = len(model.generator.layout.searched(config["search"]["torgb"]))
    most = config["search"]["num_images"]
    what = "one image" if config["image"] is not None else f"at most {most} of them a class"
    say(
        f"{len(data)} images of '{config['split']}' give the extremes of {num_coordinates} style "
        f"coordinates; {what} explained (search.num_images)"
    )
    images, labels = data.batch(range(len(data)))
    settings = dict(config["search"])
    wanted = settings.pop("num_attributes")
    found = explain(
        model,
        images.to(device),
        config["target"],
        config["source"],
        config["image"],
        wanted,
        **settings,
        selector=config["selector"],
        seed=config["seed"],
        output_dir=folder,
        made_by=made_by,
        progress=track,
    )
    write_metrics(model, images, labels, found, wanted, folder)
    write_provenance(model, config, made_by, folder)
    write_report(folder, progress=track)
    print_table(found, folder)


def default_folder(config: dict[str, Any]) -> str:
    """A folder for each question, so that two questions do not meet in one."""
    if config["image"] is not None:
        question = f"image-{config['image']}" + (
            f"-to-{config['target']}" if config["target"] else ""
        )
    elif config["source"] is None and config["target"] is None:
        question = "most-confused-pair"
    else:
        question = f"{config['source'] or 'any'}-to-{config['target'] or 'nearest'}"
    question += "" if config["selector"] == "joint" else f"-{config['selector']}"
    return (
        f"results/{Path(config['checkpoint']).name}/{question.replace(' ', '-').replace('/', '-')}"
    )


def check_classes(config: dict[str, Any], class_names: list[str]) -> None:
    """Refuses unknown class names before anything heavy is loaded."""
    known = {name.lower() for name in class_names}
    for key in ("source", "target"):
        if config[key] is not None and str(config[key]).lower() not in known:
            raise InputError(f"{key} must be one of {', '.join(class_names)}, got '{config[key]}'")


def check_fit(model: "StylEx", data: Any, checkpoint: Path) -> None:  # noqa: ANN401  an ImageSet
    """Refuses data that the model was not made for."""
    have = (data.resolution, data.channels, len(data.class_names))
    want = (model.resolution_px, model.channels, len(model.class_names))
    if have != want:
        raise InputError(
            f"the data must fit the checkpoint '{checkpoint}' ({want[0]} px, {want[1]} channels, "
            f"{want[2]} classes), "
            f"got {have[0]} px, {have[1]} channels, {have[2]} classes; give the data that it was "
            "trained for"
        )


def choose_device(name: str) -> str:
    """The device to compute on."""
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device must be auto, cpu or cuda, got '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device=cuda needs a GPU that torch can use, got none; give device=cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def write_metrics(
    model: "StylEx",
    images: "Tensor",
    labels: "Tensor",
    found: "Explanation",
    wanted: int,
    folder: Path,
) -> None:
    """Writes metrics.json: fidelity over all images, sufficiency over the held-out ones.

    Sufficiency is that of all attributes found, at most the number wanted.
    """
    from stylex.artifacts import write_json
    from stylex.evaluation.fidelity import fidelity, reconstruct

    device = model.generator.const.device
    batches = [
        (x.to(device), y.to(device))
        for x, y in zip(images.split(256), labels.split(256), strict=True)
    ]
    metrics = {
        name: value.as_json() for name, value in fidelity(reconstruct(model, batches)).items()
    }
    most = max(found.sufficiency)
    metrics |= {f"sufficiency_at_{wanted}": found.sufficiency[most].as_json()}
    write_json(folder / "metrics.json", metrics)


def write_provenance(
    model: "StylEx", config: dict[str, Any], made_by: dict[str, str], folder: Path
) -> None:
    """Writes provenance.json: what made these results."""
    from stylex.artifacts import digest, provenance, write_json

    facts = provenance(
        checkpoint=str(config["checkpoint"]),
        model=digest(model.state_dict()),
        **made_by,
        classifier=model.classifier.fingerprint(),
        seed=config["seed"],
        config=config,
    )
    write_json(folder / "provenance.json", facts)


def say(text: str) -> None:
    """Prints a line."""
    print(text, flush=True)


def track(items: Iterable[Any], what: str) -> Iterable[Any]:
    """A progress bar with the time left."""
    from rich.progress import track as bar

    return bar(list(items), what.ljust(12))


def print_table(found: "Explanation", folder: Path) -> None:
    """Prints the attributes and where to look at them."""
    from rich.console import Console
    from rich.table import Table

    moved = f"{found.source or 'any other class'} → {found.target}"
    table = Table(title=f"What makes the classifier say {found.target}  ({moved})")
    for name in (
        "#",
        "layer",
        "channel",
        "moved to",
        "mean effect [logits]",
        "95 % interval",
        "flips alone",
        "shown",
    ):
        table.add_column(name, justify="right")
    for attribute in found.attributes:
        low, high = attribute.effect.interval or (float("nan"),) * 2
        layer, channel = attribute.name.split(" #")
        table.add_row(
            str(attribute.rank),
            layer,
            channel,
            attribute.direction,
            f"{attribute.effect.value:+.2f}",
            f"{low:+.2f} … {high:+.2f}",
            f"{attribute.flips.value:.0%}",
            "-" if attribute.shown is None else str(len(attribute.shown.indices)),
        )
    Console().print(table)
    most = max(found.sufficiency)
    together = found.sufficiency[most]
    if found.subset is None and together.num_images == 1:
        say(f"all {most} together do not flip this image")
    elif found.subset is None:
        count = together.num_images
        say(f"all {most} together flip {together.value:.0%} of {count} images not selected on")
    if found.subset is not None:
        say(f"attributes {', '.join(map(str, found.subset))} together flip this image")
    say(f"open {folder / 'index.html'}")


if __name__ == "__main__":
    open_door("search", search)
