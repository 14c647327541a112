"""Which classes are made of labels."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from stylex.errors import InputError, shown

Label = str | int | float  # of a configuration, where 0 is a number
Classes = Sequence[Label] | Mapping[str, Label | Sequence[Label]]
Named = tuple[tuple[str, ...], dict[str, int]]  # names, and of each label that has one its class


def name_classes(labels: set[str], classes: Classes | None, numbered: bool) -> Named:
    """Gives every class a name and every label its class.

    Args:
        labels: That images have.
        classes: None makes each label a class; a list takes these labels alone, in its order; a
            mapping gives shell patterns of the labels of each class, of which the first match wins.
        numbered: Whether labels that are all whole numbers are put in the order of their values,
            not of their digits.

    Raises:
        InputError: If there are fewer than two classes, or one has no images.
    """
    _check_kinds(classes)
    if classes is None:
        names, taken = _all(labels, numbered)
    elif isinstance(classes, Mapping):
        names, taken = _matched(labels, classes)
    else:
        names = tuple(str(name) for name in classes)
        taken = {name: k for k, name in enumerate(names)}
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(
            f"data must have at least two classes, each one once, got {shown(', '.join(names))}; "
            "label the images or change data.classes"
        )
    for k, name in enumerate(names):
        own = {label for label, found in taken.items() if found == k}
        if not own & labels:
            near = difflib.get_close_matches(name, sorted(labels), 1, 0.0)
            raise InputError(
                f"a class of data.classes must have images, got none for '{shown(name)}'; the "
                f"nearest of {len(labels)} labels is '{shown(near[0]) if near else ''}'"
            )
    return names, {label: k for label, k in taken.items() if label in labels}


def _check_kinds(classes: Any) -> None:  # noqa: ANN401  whatever was given
    """Refuses what is neither none, nor labels, nor patterns with names."""

    def is_labels(value: Any) -> bool:  # noqa: ANN401  whatever was given
        return isinstance(value, list | tuple) and all(isinstance(v, Label) for v in value)

    if isinstance(classes, Mapping):
        sound = all(isinstance(v, Label) or is_labels(v) for v in classes.values())
    else:
        sound = classes is None or is_labels(classes)
    if not sound:
        raise InputError(
            "data.classes must be labels, [cat,dog], or patterns with names, "
            f'{{pet: [cat,dog], wild: "*"}}, got {shown(str(classes))}'
        )


def _all(labels: set[str], numbered: bool) -> Named:
    def number(label: str) -> int | None:
        try:
            return int(label)
        except ValueError:
            return None

    if numbered and all(number(label) is not None for label in labels):
        names = sorted(labels, key=lambda label: (number(label), label))
    else:
        names = sorted(labels)
    return tuple(names), {name: k for k, name in enumerate(names)}


def _matched(labels: set[str], classes: Mapping[str, Label | Sequence[Label]]) -> Named:
    patterns = [
        (k, str(pattern))
        for k, given in enumerate(classes.values())
        for pattern in ([given] if isinstance(given, Label) else given)
    ]
    taken = {}
    for label in labels:
        matches = [k for k, pattern in patterns if label == pattern or fnmatchcase(label, pattern)]
        if matches:
            taken[label] = matches[0]
    return tuple(str(name) for name in classes), taken
