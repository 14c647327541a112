"""What a search found, printed in a terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stylex.search.results import Explanation
from stylex.search.verdicts import Comparison

CHANGED = 3  # exit code of a comparison that shows a change


def print_table(found: Explanation, folder: Path, weak_points: Sequence[str]) -> None:
    """Prints the attributes, what speaks against believing them, and where to look at them."""
    moved = f"{found.source or 'any other class'} → {found.target}"
    table = Table(title=escape(f"What makes the classifier say {found.target}  ({moved})"))
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
        print(f"all {most} together do not flip this image")
    elif found.subset is None:
        count = together.num_images
        print(f"all {most} together flip {together.value:.0%} of {count} images not selected on")
    if found.subset is not None:
        print(f"attributes {', '.join(map(str, found.subset))} together flip this image")
    for text in weak_points:
        Console().print(f"[bold]![/bold] {escape(text)}", soft_wrap=True)
    print(f"open {folder / 'index.html'}")


def print_comparison(found: Comparison, folder: Path) -> None:
    """Prints what becomes of every attribute under every other classifier, and the exit code."""
    reference = found.judges[0].name
    moved = f"{found.source or 'any other class'} → {found.target}"
    print(f"{moved}: effects in standard deviations of the target's logit; ↑ largest, ↓ smallest")
    for position, judge in enumerate(found.judges[1:]):
        same = f"same decision on {judge.agreement.value:.1%} of the reconstructions"
        table = Table(
            title=escape(f"{judge.name} against {reference}\n({same})"),
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
        print(f"{len(found.held)} images cannot show a single change; give more images")
    count = found.num_changes
    if count:
        print(f"{count} times an attribute appears, vanishes or changes sign: exit code {CHANGED}")
    else:
        print("no attribute appears, vanishes or changes sign: exit code 0")
    print(f"see {folder / 'comparison.json'}")
