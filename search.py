"""Door 2: a checkpoint and images → attributes, pictures, report; `--help` lists every key."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stylex.door import open_door
from stylex.errors import InputError
from stylex.progress import Bars, quiet

if TYPE_CHECKING:
    from torch import Tensor

    from stylex.data.datasets import ImageSet
    from stylex.gan.residual import Discriminator
    from stylex.model import StylEx
    from stylex.search.crew import Crew, Member
    from stylex.search.panel import Panel
    from stylex.search.results import Explanation, Settings
    from stylex.search.verdicts import Comparison

CHANGED = 3  # exit code of a comparison that shows a change


def search(config: dict[str, Any], raw: DictConfig) -> None:
    """Searches, measures, and writes everything into one folder."""
    from stylex.artifacts import check_writable
    from stylex.model import model_folder, read_config

    checkpoint = model_folder(Path(config["checkpoint"]))
    folder = Path(config["output_dir"] or default_folder(config))
    check_writable(folder)
    check_classes(config, read_config(checkpoint)["class_names"])
    check_compared(config)
    if config["logger"]:
        from stylex.loggers import check_loggers

        check_loggers(config["logger"])

    from stylex.search.crew import assembled, place
    from stylex.search.results import Settings

    settings = {k: v for k, v in config["search"].items() if k not in ("batch_size", "autocast")}
    chosen = Settings.of({**settings, "selector": config["selector"], "seed": config["seed"]})
    with assembled(place(os.environ)) as crew:
        crew.member, data = prepared(config, raw, checkpoint, crew)
        if config["compare"] is not None:
            crew.member = panel(crew.member, config, checkpoint)
        if not crew.leads:
            crew.serve()
            return
        changed = False
        try:
            if config["compare"] is None:
                lead(crew, data, config, chosen, checkpoint, folder)
                log_found(raw, folder)
            else:
                changed = lead_comparison(crew, data, config, chosen, checkpoint, folder)
        finally:
            crew.dismiss()
    if changed:
        raise SystemExit(CHANGED)


def prepared(
    config: dict[str, Any], raw: DictConfig, checkpoint: Path, crew: "Crew"
) -> "tuple[Member, ImageSet]":
    """What every process holds, and the images with their labels."""
    from hydra.utils import instantiate

    from stylex.search.preparation import prepare

    data = instantiate(raw.data, split=config["split"])
    member = prepare(
        config,
        data,
        checkpoint,
        classifier=config.get("classifier") if config["compare"] is None else None,
        local_rank=crew.place.local_rank,
        progress=Bars() if crew.leads else quiet,
    )
    return member, data


def panel(member: "Member", config: dict[str, Any], checkpoint: Path) -> "Panel":
    """The same with all classifiers to compare; each process reads them for itself."""
    from stylex.model import read_config
    from stylex.search.panel import Panel, read_classifier

    model, one = member.model, member.images[:1]
    device = model.generator.const.device
    spec = config.get("classifier") or read_config(checkpoint)["classifier"]
    classifiers = [
        read_classifier(str(name), model.classifier, spec, one).to(device)
        for name in config["compare"]
    ]
    return Panel(model, member.images, member.computing, member.progress, classifiers=classifiers)


def lead(
    crew: "Crew",
    data: "ImageSet",
    config: dict[str, Any],
    settings: "Settings",
    checkpoint: Path,
    folder: Path,
) -> None:
    """The first process's work."""
    from stylex.report.report import Rendering, write_report
    from stylex.search.explanation import explain_together
    from stylex.search.results import write_explanation
    from stylex.search.sweeps import write_sweeps

    model = crew.member.model
    num_coordinates = len(model.generator.layout.searched(settings.torgb))
    what = "one image" if config["image"] is not None else f"at most {settings.num_images} a class"
    say(
        f"{len(data)} images of '{config['split']}' give the extremes of {num_coordinates} style "
        f"coordinates; {what} explained (search.num_images)"
    )
    made_by = {"data": data.fingerprint}
    found, facts = explain_together(
        crew,
        config["target"],
        config["source"],
        config["image"],
        settings,
        folder,
        made_by,
        discriminator(model, config, checkpoint),
    )
    write_explanation(found, folder, settings, facts)
    write_sweeps(model, crew.member.images, found, settings, folder, crew.member.progress)
    write_metrics(model, crew.member.images, data.labels, found, settings.num_attributes, folder)
    write_provenance(model, config, made_by, folder)
    write_report([folder], folder, Rendering(**config["report"]), crew.member.progress)
    print_table(found, folder)


def log_found(raw: DictConfig, folder: Path) -> None:
    """Sends the attributes, the pictures and the metrics in a folder to the loggers, if any."""
    if not raw.logger:
        return
    from hydra.utils import instantiate

    from stylex.loggers import log_results

    raw.output_dir = str(folder)  # which the loggers' folders name
    found, metrics = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("attributes", "metrics")
    )
    effect = ("mean effect [logits]", "95 % from", "95 % to")
    columns = ("rank", "attribute", "moved to", *effect, "flips alone")
    rows = [
        (
            *(attribute[key] for key in ("rank", "name", "direction")),
            attribute["effect"]["value"],
            *(attribute["effect"]["interval"] or (None, None)),
            attribute["flips"]["value"],
        )
        for attribute in found["attributes"]
    ]
    values = {k: v["value"] for k, v in metrics.items() if v["value"] is not None}
    log_results(list(instantiate(raw.logger).values()), folder, columns, rows, values)


def discriminator(
    model: "StylEx", config: dict[str, Any], checkpoint: Path
) -> "Discriminator | None":
    """Judge of the discriminator filter; none if it is not asked for."""
    from stylex.model import load_discriminator

    if not config["discriminator"]:
        return None
    return load_discriminator(checkpoint).to(model.generator.const.device)


def lead_comparison(
    crew: "Crew",
    data: "ImageSet",
    config: dict[str, Any],
    settings: "Settings",
    checkpoint: Path,
    folder: Path,
) -> bool:
    """The first process's work with several classifiers; whether something changes."""
    from stylex.artifacts import write_json
    from stylex.search.comparison import compare

    model, names = crew.member.model, [str(name) for name in config["compare"]]
    say(
        f"{len(data)} images of '{config['split']}' give the extremes; at most "
        f"{settings.num_images} that {len(names)} classifiers call the same are compared on "
        "(search.num_images)"
    )
    made_by = {"data": data.fingerprint}
    found = compare(
        crew,
        names,
        config["source"],
        config["target"],
        settings,
        folder,
        made_by,
        discriminator(model, config, checkpoint),
        config["compare_least"],
    )
    write_json(folder / "comparison.json", {**made_by, **found.as_json()})
    fingerprints = {judge.name: judge.fingerprint for judge in found.judges}
    write_provenance(model, config, {**made_by, "classifiers": fingerprints}, folder)
    print_comparison(found, folder)
    return found.num_changes > 0


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
    if config["compare"] is not None:
        mark = hashlib.sha256(repr(config["compare"]).encode()).hexdigest()[:8]
        question = f"compare-{question}-{mark}"
    return (
        f"results/{Path(config['checkpoint']).name}/{question.replace(' ', '-').replace('/', '-')}"
    )


def check_classes(config: dict[str, Any], class_names: list[str]) -> None:
    """Refuses unknown class names before anything heavy is loaded."""
    known = {name.lower() for name in class_names}
    for key in ("source", "target"):
        if config[key] is not None and str(config[key]).lower() not in known:
            raise InputError(f"{key} must be one of {', '.join(class_names)}, got '{config[key]}'")


def check_compared(config: dict[str, Any]) -> None:
    """Refuses a comparison that cannot be, before anything heavy is loaded."""
    names = config["compare"]
    if names is None:
        return
    if not isinstance(names, list) or len(names) < 2:
        raise InputError(
            "compare must be a list of at least two classifiers, the reference first, got "
            f"'{names}'; give compare=[checkpoint,PATH]"
        )
    if config["image"] is not None:
        raise InputError(
            f"compare explains a class, got image={config['image']}; leave one of the two out"
        )
    if config["logger"]:
        raise InputError(
            f"a comparison has no pictures to log, got logger={','.join(config['logger'])}; leave "
            "logger or compare out"
        )
    if config["compare_least"] < 0:
        raise InputError(f"compare_least must be at least 0, got {config['compare_least']}")


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
    model: "StylEx", config: dict[str, Any], made_by: dict[str, Any], folder: Path
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


def print_comparison(found: "Comparison", folder: Path) -> None:
    """Prints what becomes of every attribute under every other classifier, and the exit code."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    reference = found.judges[0].name
    moved = f"{found.source or 'any other class'} → {found.target}"
    say(f"{moved}: effects in standard deviations of the target's logit; ↑ largest, ↓ smallest")
    for position, judge in enumerate(found.judges[1:]):
        same = f"same decision on {judge.agreement.value:.1%} of the reconstructions"
        table = Table(
            title=f"{judge.name} against {reference}\n({same})",
            box=SIMPLE,
            pad_edge=False,
            collapse_padding=True,
        )
        for name in ("attribute", "picked", "was", "is", "difference", "verdict"):
            table.add_column(name, justify="right")
        for attribute in found.attributes:
            was, now = attribute.effects[0], attribute.effects[position + 1]
            difference = attribute.differences[position]
            low, high = difference.standardised.interval or (float("nan"),) * 2
            table.add_row(
                f"{attribute.name} {'↓↑'[attribute.direction == 'largest']}",
                f"{was.rank or '-'}/{now.rank or '-'}",
                f"{was.standardised.value:+.2f}",
                f"{now.standardised.value:+.2f}",
                f"{difference.standardised.value:+.2f} ({low:+.2f} … {high:+.2f})",
                difference.verdict,
            )
        Console().print(table)
    if not found.can_show_one:
        say(f"{len(found.held)} images cannot show a single change; give more images")
    count = found.num_changes
    if count:
        say(f"{count} times an attribute appears, vanishes or changes sign: exit code {CHANGED}")
    else:
        say("no attribute appears, vanishes or changes sign: exit code 0")
    say(f"see {folder / 'comparison.json'}")


if __name__ == "__main__":
    open_door("search", search)
