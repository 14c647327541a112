"""What a network's outputs mean: logits of classes, or of labels of which one is explained.

One logit z becomes the two logits (−z/2, z/2): their softmax is the sigmoid of z, and each class
has a logit that an edit can move.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.types import Logits

LISTED = 10  # names in a message
SUM_SLACK = 1e-3  # a row of probabilities may miss 1 by, in low precision


@dataclass(frozen=True)
class Reading:
    """How logits come from outputs.

    Attributes:
        output: Position of the label that is explained; none: the outputs are the classes'.
        label_names: Of the outputs, in the network's order; empty if nobody knows them.
        order: Positions of the classes' logits among the outputs; none: as they come.
    """

    output: int | None = None
    label_names: tuple[str, ...] = ()
    order: tuple[int, ...] | None = None

    def logits(self, outputs: Tensor, class_names: Sequence[str]) -> Logits:
        """Logits of the classes from outputs [b o].

        Raises:
            InputError: If the outputs do not fit the names.
        """
        if self.output is not None:
            self._check_width(outputs)
            outputs = outputs[:, self.output, None]
        elif self.order is not None and outputs.shape[1:] == (len(self.order),):
            outputs = outputs[:, list(self.order)]
        if outputs.ndim == 2 and outputs.shape[1] == 1 and len(class_names) == 2:
            outputs = torch.cat((-outputs / 2, outputs / 2), dim=1)
        if outputs.ndim != 2 or outputs.shape[1] != len(class_names):
            raise InputError(
                f"the classifier must return one logit per class ({len(class_names)}: "
                f"{_few(class_names)}), got an output of shape {tuple(outputs.shape)}; "
                "give the data that it was trained for, or classifier.output=LABEL to explain one "
                "label of many"
            )
        return outputs

    def names_of(self, num_outputs: int) -> tuple[str, ...]:
        """Names of all outputs; by their numbers if nobody knows them."""
        return self.label_names or tuple(f"output {i}" for i in range(num_outputs))

    def declaration(self) -> str:
        """What tells this reading from another; empty for the plain one."""
        plain = self.output is None and self.order is None
        return "" if plain else repr((self.output, self.order))

    def _check_width(self, outputs: Tensor) -> None:
        assert self.output is not None
        wide = outputs.shape[1] if outputs.ndim == 2 else 0
        named = len(self.label_names) or wide
        if not self.output < wide or named != wide:
            raise InputError(
                f"classifier.output must be one of the network's labels, got {self.output} of "
                f"{named} names for outputs of shape {tuple(outputs.shape)}; correct "
                "classifier.output or classifier.label_names"
            )


def read_as(
    spec: Mapping[str, Any], network: nn.Module, class_names: Sequence[str]
) -> tuple[Reading, tuple[str, ...]]:
    """How a network is read, and the names of its classes.

    Args:
        spec: `output` and `label_names`; without them, as older configurations are, both are none.
        network: Says names in its attribute `label_names`, if it has one.
        class_names: Of the data. One label of many makes its own two: not NAME, and NAME.

    Raises:
        InputError: If the label is unknown, or the data has not two classes.
    """
    labels = known_labels(spec, network)
    given = spec.get("output")
    if given is None:
        if getattr(network, "independent_labels", False):
            raise InputError(
                "a network of independent labels is explained one label at a time, got "
                f"classifier.output=null; give one of {_few(labels)}"
            )
        return Reading(None, labels, _order(labels, class_names)), tuple(class_names)
    if len(class_names) != 2:
        raise InputError(
            "one label is explained as a decision between two classes, got data of "
            f"{len(class_names)}; give data of two classes (without and with the label)"
        )
    position = _position(given, labels)
    name = labels[position] if labels else f"output {position}"
    return Reading(position, labels, None), (f"not {name}", name)


def known_labels(spec: Mapping[str, Any], network: nn.Module | None) -> tuple[str, ...]:
    """Names of the outputs as the configuration says, or else the network; empty if neither.

    Raises:
        InputError: If they are no list.
    """
    given = spec.get("label_names")
    if given is None:
        given = getattr(network, "label_names", ())
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputError(
            f"classifier.label_names must be a list of names, got '{given}'; give [NAME,NAME]"
        )
    return tuple(str(name) for name in given)


def _position(given: Any, labels: tuple[str, ...]) -> int:  # noqa: ANN401  as typed
    """Position of a label that is given by its number or name."""
    lower = [name.lower() for name in labels]
    if isinstance(given, str) and given.lower() in lower:
        return lower.index(given.lower())
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        if not labels or given < len(labels):
            return given
    elif not labels:
        raise InputError(
            f"classifier.output must be a number from 0 as long as no names are known, got "
            f"'{given}'; give classifier.label_names=[NAME,...], too"
        )
    near = difflib.get_close_matches(str(given), labels, 1, 0.0) or labels[:1]
    raise InputError(
        f"classifier.output must be a label (0 to {len(labels) - 1}, or a name), got '{given}'; "
        f"the nearest one is '{near[0]}'"
    )


def _order(labels: tuple[str, ...], class_names: Sequence[str]) -> tuple[int, ...] | None:
    """Where the data's classes are among labels of the same names; none if they are in order."""
    wanted, have = (
        [name.lower().replace("_", " ") for name in names] for names in (class_names, labels)
    )
    if wanted == have or sorted(wanted) != sorted(have) or len(set(have)) != len(have):
        return None
    return tuple(have.index(name) for name in wanted)


def kind_of_outputs(outputs: Float[Tensor, "b o"]) -> str:
    """Whether outputs look like `logits`, `softmax` probabilities or `sigmoid` probabilities.

    Probabilities of classes lie in [0, 1] and every image's sum to 1, which logits do by chance
    alone; independent ones merely lie in [0, 1], which logits of few images may do. Outputs that
    are all the same are a network's that says nothing.
    """
    outputs = outputs.detach().double()
    is_dead = bool((outputs == outputs[0, 0]).all())
    if is_dead or not bool(((outputs >= 0) & (outputs <= 1)).all()):
        return "logits"
    sums_to_one = bool(((outputs.sum(dim=1) - 1).abs() <= SUM_SLACK).all())
    return "softmax" if sums_to_one and outputs.shape[1] > 1 else "sigmoid"


def check_logits(outputs: Float[Tensor, "b o"]) -> None:
    """Refuses what can only be a softmax.

    Sigmoids are left to the doctor: the logits of a few images may lie in [0, 1], too.

    Raises:
        InputError: If every image's outputs are in [0, 1] and sum to 1.
    """
    if len(outputs) > 1 and kind_of_outputs(outputs) == "softmax":
        raise InputError(probabilities_refused("softmax"))


def probabilities_refused(kind: str) -> str:
    """The sentence for a network that ends with a softmax or sigmoid."""
    return (
        "a classifier must return logits, got probabilities (every output lies in [0, 1]"
        + (", and each image's sum to 1" if kind == "softmax" else "")
        + f"); cut the last {kind} off the network, or save it again without"
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
