"""The folders that the scripts of DiME and ACE leave and read, so that results can be exchanged.

    FOLDER/Original/{Correct,Incorrect}/0000012.png
    FOLDER/Results/EXPERIMENT/{CC,IC}/{CCF,ICF}/{CF,SM}/0000012.png and .../Info/0000012.txt

CC are images called by their label and IC others; CCF are counterfactuals called the target and
ICF others. CF holds counterfactuals, SM maps of the change, Info a text. ACE's experiments end in
`/explanation`; DiME's pictures are JPEG files.
Sources: the scripts of Jeanneret et al. 2022 (arXiv:2203.15636) and 2023 (arXiv:2303.09962).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from stylex.artifacts import replacing
from stylex.errors import InputError
from stylex.evaluation.edits import Edits
from stylex.imaging import Picture, read_image, write_png
from stylex.types import Labels, Pixels, Probabilities

ORIGINALS = {"CC": "Correct", "IC": "Incorrect"}
OUTCOMES = ("CCF", "ICF")
SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Layout:
    """Counterfactuals of an experiment, with what its folders claim of them.

    Attributes:
        edits: One edit an image. Foreign results have no reconstructions: originals stand in their
            place, so figures on the base of a reconstruction are on the base of the original.
        is_correct: Whether an image lay under CC.
        is_flipped: Whether its counterfactual lay under CCF; judged before the file was written,
            so the file itself may be called otherwise.
    """

    edits: Edits
    is_correct: Bool[Tensor, " n"]
    is_flipped: Bool[Tensor, " n"]


def write_layout(
    edits: Edits,
    labels: Labels,
    before: Probabilities,
    after: Probabilities,
    folder: Path,
    experiment: str,
) -> None:
    """Writes originals and the counterfactuals that all edits together make.

    These counterfactuals start from reconstructions, so a script that compares them with the
    originals measures the reconstruction too.

    Args:
        edits: At least one edit.
        labels: Classes of the images in the data.
        before: The classifier's, of the originals.
        after: The classifier's, of the counterfactuals.
        folder: Where `Original` and `Results` lie.
        experiment: Name under `Results`.

    Raises:
        InputError: If there is no edit, or the experiment exists.
    """
    if not edits.together:
        raise InputError(
            f"the layout needs counterfactuals, got no edit of '{edits.method}'; search again"
        )
    root = folder / "Results" / experiment
    if root.exists():
        raise InputError(f"the experiment must be a new one, got '{root}'; give another name")
    target = edits.class_names.index(edits.target)
    changed = edits.together[-1]
    for correct, outcome in product(ORIGINALS, OUTCOMES):
        (folder / "Original" / ORIGINALS[correct]).mkdir(parents=True, exist_ok=True)
        for part in ("CF", "Info", "SM"):
            (root / correct / outcome / part).mkdir(parents=True)
    for i, position in enumerate(edits.positions.tolist()):
        said, said_then = int(before[i].argmax()), int(after[i].argmax())
        correct = "CC" if said == int(labels[i]) else "IC"
        place = root / correct / ("CCF" if said_then == target else "ICF")
        name = f"{position:07d}"
        difference = (changed[i].int() - edits.images[i].int()).abs()
        write_png(folder / "Original" / ORIGINALS[correct] / f"{name}.png", edits.images[i])
        write_png(place / "CF" / f"{name}.png", changed[i])
        write_png(place / "SM" / f"{name}.png", _change(difference))
        facts = {"label": int(labels[i]), "pred": said, "target": target, "cf pred": said_then}
        facts["position"] = position
        shares = {"probabilities": before[i], "cf probabilities": after[i]}
        _write_info(place / "Info" / f"{name}.txt", facts, difference, shares)


def _write_info(
    path: Path, facts: Mapping[str, int], difference: Tensor, shares: Mapping[str, Tensor]
) -> None:
    """Writes the scripts' lines, `name: value`, and after them the probabilities."""
    told = {
        **facts,
        "l_inf": float(difference.max()) / 255,
        "l_1": float(difference.float().mean()) / 255,
        **{name: " ".join(f"{p:.6f}" for p in row.tolist()) for name, row in shares.items()},
    }
    with replacing(path) as temporary:
        temporary.write_text("\n".join(f"{name}: {value}" for name, value in told.items()))


def _change(difference: Tensor) -> Picture:
    """Sum over channels of the absolute change, its largest value 255; no change stays black."""
    total = difference.sum(dim=0, keepdim=True)
    scaled = 255 * total // max(int(total.max()), 1)
    return scaled.to(torch.uint8).expand(difference.shape[0], -1, -1)


def read_layout(folder: Path, experiment: str, class_names: Sequence[str], target: str) -> Layout:
    """Reads the counterfactuals of an experiment that aim at a class.

    Where a counterfactual has no Info, as after ACE's post-processing, it counts as aiming at it.

    Args:
        folder: Where `Original` and `Results` lie.
        experiment: Name under `Results`.
        class_names: In the order of the numbers in the Info.
        target: One of them.

    Raises:
        InputError: If there is none, a file is missing, broken or twice there, or images differ
            in size.
    """
    if target not in class_names:
        raise InputError(f"target must be one of {', '.join(class_names)}, got '{target}'")
    number = list(class_names).index(target)
    root = folder / "Results" / experiment
    found: dict[int, tuple[Path, Path, bool, bool]] = {}
    for path, correct, outcome in _counterfactuals(root):
        if _target(path, default=number) != number:
            continue
        if not path.stem.isdecimal() or int(path.stem) in found:
            raise InputError(
                f"counterfactuals must be named by the number of their image, each once, got "
                f"'{path}'; rename or remove it"
            )
        original = folder / "Original" / ORIGINALS[correct] / path.name
        found[int(path.stem)] = (original, path, correct == "CC", outcome == "CCF")
    if not found:
        raise InputError(
            f"an experiment must hold CC and IC with counterfactuals towards '{target}', got none "
            f"in '{root}'; give its name under Results"
        )
    originals, counterfactuals, is_correct, is_flipped = zip(
        *(found[position] for position in sorted(found)), strict=True
    )
    images, changed = _read_all(originals + counterfactuals).chunk(2)
    edits = Edits(
        method=experiment,
        names=("counterfactual",),
        source=None,
        target=target,
        class_names=tuple(class_names),
        strength=1.0,
        positions=torch.tensor(sorted(found)),
        images=images,
        reconstructions=images,
        edited=(changed,),
        together=(changed,),
    )
    return Layout(edits, torch.tensor(is_correct), torch.tensor(is_flipped))


def _counterfactuals(root: Path) -> Iterator[tuple[Path, str, str]]:
    for correct, outcome in product(ORIGINALS, OUTCOMES):
        for path in sorted((root / correct / outcome / "CF").glob("*")):
            if path.suffix.lower() in SUFFIXES:
                yield path, correct, outcome


def _target(path: Path, default: int) -> int:
    """Target in a counterfactual's Info."""
    info = path.parent.parent / "Info" / f"{path.stem}.txt"
    if not info.is_file():
        return default
    facts = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    value = facts.get("target", "none").strip()
    if not value.isdecimal():
        raise InputError(f"an Info must have the line 'target: NUMBER', got {value} in '{info}'")
    return int(value)


def _read_all(paths: Sequence[Path]) -> Pixels:
    """Pictures as they are, without any change of size."""
    pictures = []
    for path in paths:
        pictures.append(_read(path))
        if pictures[-1].shape != pictures[0].shape:
            raise InputError(
                f"pictures must have one size, got {tuple(pictures[0].shape)} in '{paths[0]}' and "
                f"{tuple(pictures[-1].shape)} in '{path}'"
            )
    return torch.stack(pictures)


def _read(path: Path) -> Picture:
    try:
        with Image.open(path) as file:
            (width, height), channels = file.size, 1 if file.mode == "L" else 3
    except OSError as error:
        raise InputError(
            f"every counterfactual and its original must be a readable picture, got '{path}'; "
            "restore or remove both"
        ) from error
    if width != height:
        raise InputError(f"pictures must be square, got {width}x{height} px in '{path}'; crop it")
    return read_image(path, width, channels)
