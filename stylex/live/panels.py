"""The parts of the live page as HTML, and its sentences; nothing here knows who shows them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from stylex.imaging import to_uint8
from stylex.report.animations.canvas import to_pillow
from stylex.report.results import Pictures
from stylex.report.wording import percent, ranks
from stylex.search.exploration import Exploration, Subject, View
from stylex.search.results import Attribute, Explanation

MOST_CLASSES = 12  # rows of the probabilities
PICTURE_PX = 256  # smaller images are enlarged up to this by a whole factor
NOTHING_MOVED = 0.005  # positions within this are the unedited copy


@dataclass(frozen=True)
class Card:
    """A picture with its decision; an empty place if there is none."""

    title: str
    uri: str = ""
    decision: str = ""
    share: str = ""
    is_changed: bool = False


@dataclass(frozen=True)
class Row:
    """A class with its probabilities of the image, of its copy and of the edited copy."""

    name: str
    given: float
    copy: float
    edited: float

    @property
    def greatest(self) -> float:
        """Of the three."""
        return max(self.given, self.copy, self.edited)


def _part(name: str, *values: Any) -> str:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["percent"] = percent
    template = environment.from_string(files("stylex.live").joinpath("panels.html").read_text())
    return str(getattr(template.module, name)(*values))


def heading(exploration: Exploration, name: str) -> str:
    """What the page is for, and what its model knows."""
    model = exploration.model
    return _part("heading", name, model.class_names, model.resolution_px, model.channels)


def manual(num_images: int) -> str:
    """What the positions of knobs mean."""
    return _part("manual", num_images)


def message(kind: str, *lines: str) -> str:
    """Sentences for the user; `kind` is plain, good, warning or error."""
    return _part("message", kind, lines)


def refusal(error: Exception) -> str:
    """What was wrong with what the user gave, as a sentence."""
    text = str(error)
    return message("error", f"{text[0].upper()}{text[1:]}.")


def pictures(class_names: Sequence[str], subject: Subject | None, edited: View | None) -> str:
    """The image, its copy and the edited copy, with the decision on each."""
    titles = ("Your image", "Its copy", "Edited copy")
    if subject is None:
        return _part("pictures", [Card(title) for title in titles])
    edited = edited or subject.copy
    views = (subject.given, subject.copy, edited)
    cards = [
        Card(
            title,
            _data_uri(view),
            class_names[view.decision],
            percent(view.probabilities[view.decision]),
            is_changed=view is edited and edited.decision != subject.copy.decision,
        )
        for title, view in zip(titles, views, strict=True)
    ]
    return _part("pictures", cards)


def chances(
    class_names: Sequence[str], subject: Subject | None, edited: View | None, target: str
) -> str:
    """The probabilities of all three; of many classes the target and the likeliest in any."""
    if subject is None:
        zeros = [0.0] * len(class_names)
        columns = [zeros, zeros, zeros]
    else:
        shown = (subject.given, subject.copy, edited or subject.copy)
        columns = [list(view.probabilities) for view in shown]
    rows = [Row(name, *values) for name, *values in zip(class_names, *columns, strict=True)]
    first = sorted(rows, key=lambda row: (row.name == target, row.greatest), reverse=True)
    kept = [row for row in rows if row in first[:MOST_CLASSES]]
    return _part("chances", kept, len(rows) - len(kept), target, subject is None)


def judgement(class_names: Sequence[str], subject: Subject) -> str:
    """The decisions on the image and on its copy; a warning if they differ."""
    given, copy = (
        f"{class_names[view.decision]} ({percent(view.probabilities[view.decision])})"
        for view in (subject.given, subject.copy)
    )
    if subject.agrees:
        return message("plain", f"The classifier calls your image {given} and its copy {copy}.")
    return message(
        "warning",
        f"The classifier calls your image {given}, but the model’s copy of it {copy}.",
        "What follows explains the copy, which the classifier calls "
        f"{class_names[subject.copy.decision]}, and not your image.",
    )


def finding(
    class_names: Sequence[str], subject: Subject, found: Explanation, strength: float
) -> str:
    """What would change the decision on the copy; `strength` is the search's."""
    change = f"the copy from {found.source} to {found.target}"
    if found.subset is None:
        line = (
            f"The {len(found.attributes)} knobs found do not change {change}, all at {strength:g}."
        )
    elif len(found.subset) == 1:
        line = f"Knob {ranks(found.subset)} alone, at {strength:g}, changes {change}."
    else:
        line = f"Knobs {ranks(found.subset)} together, at {strength:g}, change {change}."
    if subject.agrees:
        return message("plain" if found.subset is None else "good", line)
    given = class_names[subject.given.decision]
    return message(
        "warning", line, f"This explains the copy alone: the classifier calls your image {given}."
    )


def knob_name(attribute: Attribute) -> str:
    """Rank, coordinate and direction."""
    return f"#{attribute.rank} · {attribute.name} → {attribute.direction}"


def move(found: Explanation) -> str:
    """From which class to which."""
    return f"{found.source} → {found.target}"


def caption(found: Explanation, positions: Sequence[float]) -> str:
    """Which knobs are turned how far; the caption of an animation."""
    edits = [
        f"#{attribute.rank} {attribute.name} → {attribute.direction} at {position:g}".replace(
            "-", "−"
        )
        for attribute, position in zip(found.attributes, positions, strict=True)
        if abs(position) > NOTHING_MOVED
    ]
    return " · ".join(["own image", *edits])


def compared(subject: Subject, edited: View, target: int) -> Pictures:
    """The copy before and after, as an animation takes it."""
    before, after = (view.probabilities[target] for view in (subject.copy, edited))
    images = to_uint8(subject.copy.image), to_uint8(edited.image)
    return Pictures((0,), *images, (before,), (after,))


def _data_uri(view: View) -> str:
    content = io.BytesIO()
    to_pillow(to_uint8(view.image)[0], PICTURE_PX).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
