"""A survey as a table in the terminal, and as a CSV or JSON file."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from stylex.artifacts import harmless, replacing
from stylex.data.check.survey import KINDS, Finding, Survey
from stylex.data.splits import SPLITS
from stylex.errors import InputError, shown

FEW = 10  # findings of a kind that the terminal shows
FEW_FILES = 4  # of a finding
COLUMNS = ("finding", "kind", "file", "class", "split", "detail")


def table(survey: Survey) -> str:
    """Counts of every class and split, then what is wrong, kind by kind."""
    rows: list[tuple[str, ...]] = [("class", *SPLITS, "all")]
    for name in survey.class_names:
        counts = [survey.counts[name, split] for split in SPLITS]
        rows.append((shown(name), *map(str, counts), str(sum(counts))))
    sums = [sum(survey.counts[name, split] for name in survey.class_names) for split in SPLITS]
    rows.append(("all", *map(str, sums), str(sum(sums))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    root = shown(survey.root)
    lines = [f"{len(survey.images)} images of {len(survey.class_names)} classes in {root}"]
    if survey.num_left_out:
        lines.append(f"{survey.num_left_out} more have no class and were not read")
    if survey.num_groups:
        lines.append(f"{survey.num_groups} groups, each within one split")
    lines.append("")
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    for kind in KINDS:
        lines += ["", *_of_kind(survey, kind)]
    return "\n".join(lines)


def write(survey: Survey, path: Path) -> None:
    """Writes all findings; a cell that a spreadsheet would run as a formula gets a quote before it.

    Args:
        survey: What was found.
        path: A .csv file, with a row an image of a finding, or a .json file.

    Raises:
        InputError: If it ends otherwise or cannot be written.
    """
    check_output(path)
    try:
        with replacing(path) as temporary:
            if path.suffix.lower() == ".json":
                text = json.dumps(as_json(survey), indent=2, ensure_ascii=False)
                temporary.write_text(text + "\n", encoding="utf-8")
                return
            with temporary.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([COLUMNS, *_rows(survey)])
    except OSError as error:
        raise InputError(
            f"output must be a file that can be written, got '{shown(str(path))}' "
            f"({error.strerror}); choose another"
        ) from error


def check_output(path: Path) -> None:
    """Refuses a file that is neither CSV nor JSON.

    Raises:
        InputError: If its name ends otherwise.
    """
    if path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"output must end in .csv or .json, got '{shown(str(path))}'")


def as_json(survey: Survey) -> dict[str, object]:
    """Counts and findings as plain values."""
    return {
        "root": survey.root,
        "num_images": len(survey.images),
        "num_left_out": survey.num_left_out,
        "num_groups": survey.num_groups,
        "counts": {
            name: {split: survey.counts[name, split] for split in SPLITS}
            for name in survey.class_names
        },
        "findings": [
            {
                "kind": finding.kind,
                "detail": finding.detail,
                "images": [
                    {"file": image.file, "class": image.label, "split": image.split}
                    for image in finding.images
                ],
            }
            for finding in survey.findings
        ],
    }


def _of_kind(survey: Survey, kind: str) -> Iterator[str]:
    found = [finding for finding in survey.findings if finding.kind == kind]
    yield f"{kind}: {len(found) or 'none'}"
    for finding in found[:FEW]:
        yield f"  {_named(finding)}: {finding.detail}"
    if len(found) > FEW:
        yield f"  and {len(found) - FEW} more: output=FILE.csv lists all"


def _named(finding: Finding) -> str:
    some = [
        f"{shown(image.file)} ({shown(image.label)}, {image.split})"
        for image in finding.images[:FEW_FILES]
    ]
    more = len(finding.images) - FEW_FILES
    return ", ".join(some) + (f" and {more} more" if more > 0 else "")


def _rows(survey: Survey) -> Iterator[tuple[str, ...]]:
    for number, finding in enumerate(survey.findings, start=1):
        for image in finding.images:
            cells = (finding.kind, image.file, image.label, image.split, finding.detail)
            yield (str(number), *map(harmless, cells))
