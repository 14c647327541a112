"""Door 2: a checkpoint and images → attributes, pictures, report; `--help` lists every key."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from stylex.door import image_set, open_door
from stylex.errors import InputError
from stylex.progress import Bars, quiet
from stylex.ranges import AMOUNT, NUMBER, check_ranges
from stylex.search.ranges import SEARCH

if TYPE_CHECKING:
    from torch import Tensor

    from stylex.data.datasets import ImageSet
    from stylex.gan.residual import Discriminator
    from stylex.model import StylEx
    from stylex.report.report import Rendering
    from stylex.search.crew import Crew, Member
    from stylex.search.panel import Panel
    from stylex.search.results import Explanation, Settings


def search(config: dict[str, Any], raw: DictConfig) -> None:
    """Searches, measures, and writes everything into one folder."""
    from stylex.artifacts import check_apart, check_writable
    from stylex.model import model_folder, read_config

    checkpoint = model_folder(Path(config["checkpoint"]))
    folder = Path(config["output_dir"] or default_folder(config))
    check_writable(folder)
    check_apart(folder, config["data"].get("root"))
    if config["called_by"] not in ("explained", "checkpoint"):
        raise InputError(f"called_by must be explained or checkpoint, got '{config['called_by']}'")
    check_classes(config, read_config(checkpoint)["class_names"])
    check_compared(config)
    check_logged(config)

    from stylex.folders import held
    from stylex.processes import place
    from stylex.report.report import Rendering
    from stylex.search.crew import assembled
    from stylex.search.results import Settings

    rendering = Rendering.of(config["report"])  # refused now, not after the search
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
            with held(folder):
                if config["compare"] is None:
                    lead(crew, data, config, chosen, checkpoint, folder, rendering)
                    log_found(raw, folder)
                else:
                    changed = lead_comparison(crew, data, config, chosen, checkpoint, folder)
        finally:
            crew.dismiss()
    if changed:
        from stylex.search.summary import CHANGED

        raise SystemExit(CHANGED)


def prepared(
    config: dict[str, Any], raw: DictConfig, checkpoint: Path, crew: "Crew"
) -> "tuple[Member, ImageSet]":
    """What every process holds, and the images with their labels."""
    from stylex.search.preparation import prepare

    data = image_set(raw.data, config["split"])
    member = prepare(
        config,
        data,
        checkpoint,
        classifier=config.get("classifier") if config["compare"] is None else None,
        local_rank=crew.place.local_rank,
        progress=Bars() if crew.leads else quiet,
    )
    if crew.leads and (config["called_by"] == "checkpoint" or config["randomised_layers"]):
        member.called = called(checkpoint, member, config["trust"])
    if config["randomised_layers"]:
        classifier = member.model.classifier
        member.model.classifier = classifier.reinitialised(
            config["randomised_layers"], config["seed"]
        )
    return member, data


def called(checkpoint: Path, member: "Member", trust: bool) -> "Tensor":
    """What the checkpoint's own classifier calls the images: a destroyed one calls all the same."""
    import torch

    from stylex.model import load

    own = load(checkpoint, trust=trust).classifier.to(member.model.generator.const.device)
    parts = [own(part.to(own.adapter.mean.device)) for part in member.images.split(256)]
    return torch.cat(parts).argmax(dim=1).cpu()


def panel(member: "Member", config: dict[str, Any], checkpoint: Path) -> "Panel":
    """The same with all classifiers to compare; each process reads them for itself."""
    from stylex.classifier.files import read_classifier
    from stylex.model import read_config
    from stylex.search.panel import Panel

    model, one = member.model, member.images[:1]
    device = model.generator.const.device
    spec = config.get("classifier") or read_config(checkpoint)["classifier"]
    classifiers = [
        read_classifier(str(name), model.classifier, spec, one, trust=config["trust"]).to(device)
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
    rendering: "Rendering",
) -> None:
    """The first process's work."""
    from stylex.report.caveats import caveats
    from stylex.report.report import write_report
    from stylex.report.results import read_results
    from stylex.search.explanation import explain_together
    from stylex.search.handover import write_edits
    from stylex.search.results import write_explanation
    from stylex.search.summary import print_table
    from stylex.search.sweeps import write_sweeps

    model, images = crew.member.model, crew.member.images
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
    (folder / "evaluation.json").unlink(missing_ok=True)  # of an earlier search in this folder
    write_sweeps(model, images, found, settings, folder, crew.member.progress)
    write_edits(model, images, found, settings, folder, crew.member.progress)
    write_metrics(model, images, data.labels, found, settings.num_attributes, folder)
    write_provenance(model, config, made_by, folder)
    write_report([folder], folder, rendering, crew.member.progress)
    print_table(found, folder, caveats(read_results(folder)))


def log_found(raw: DictConfig, folder: Path) -> None:
    """Sends the attributes, the pictures and the metrics in a folder to the loggers, if any."""
    if not raw.logger:
        return
    from hydra.utils import instantiate

    from stylex.loggers import log_results
    from stylex.tracking import begin_anew

    raw.output_dir = str(folder)  # which the loggers' folders name
    begin_anew(folder)
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
    from stylex.search.summary import print_comparison

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
    """A folder for each question, so that two questions do not meet in one.

    Other seeds, and classifiers with untrained layers, have sub-folders of the question's.
    """
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
    folder = f"results/{Path(config['checkpoint']).name}/{folder_name(question)}"
    folder += f"/seeds/{config['seed']}" if config["seed"] else ""
    layers = config["randomised_layers"]
    return folder + (f"/sanity/layers-{layers}" if layers else "")


def folder_name(text: str) -> str:
    """A text as one folder's name: classes may be called anything."""
    name = "".join("-" if c in " /\\" or not c.isprintable() else c for c in text)
    if len(name.encode()) <= 150:
        return name
    mark = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{name.encode()[:100].decode(errors='ignore')}-{mark}"


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
    if config["randomised_layers"]:
        raise InputError(
            f"compare judges classifiers as they are, got randomised_layers="
            f"{config['randomised_layers']}; leave one of the two out"
        )
    if config["logger"]:
        raise InputError(
            f"a comparison has no pictures to log, got logger={','.join(config['logger'])}; leave "
            "logger or compare out"
        )


def check_logged(config: dict[str, Any]) -> None:
    """Refuses numbers out of their range, and a logger whose package is missing."""
    check_ranges(config, {"randomised_layers": NUMBER, "compare_least": AMOUNT})
    check_ranges(config["search"], SEARCH, "search.")
    if config["logger"]:
        from stylex.loggers import check_loggers

        check_loggers(config["logger"])


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


if __name__ == "__main__":
    open_door("search", search)
