"""A classifier's examination in words: lines with their remedies, and two tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from stylex.classifier.examination import (
    Answers,
    Batch,
    Bin,
    Gradient,
    OtherInput,
    accuracies,
    answer,
    better_inputs,
    calibration,
    cost,
    gradient,
    stays_in_unit_interval,
)
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.reading import probabilities_refused
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.types import Images, Labels

COMPARED = 256  # images that other inputs are tried on
SHOWN_CLASSES = 20  # the worst, of more
TRIED = 2  # images that tell whether it runs at all
LITTLE = 0.1  # share of pixels with a gradient that calls for a word
MEGABYTE = 2**20
Line = tuple[str, Literal["ok", "warning", "fault"], str, str]  # name, mark, text, remedy


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        lines: Name, mark (ok, warning, fault), text and remedy of every look.
        tables: Accuracy of every class, and reliability, as text.
        fault: Why the classifier cannot be explained, in a sentence; empty if it can.
    """

    lines: tuple[Line, ...]
    tables: str
    fault: str


def consult(
    classifier: FrozenClassifier, batches: Sequence[Batch], labels: Labels, num_bins: int
) -> Report:
    """Examines a classifier on labelled images.

    Args:
        classifier: On the device to compute on.
        batches: Images, of the data's form.
        labels: Of all of them, in order.
        num_bins: Of the calibration error.

    Raises:
        InputError: If it cannot take the images, or returns probabilities.
    """
    classifier.check(batches[0][:TRIED])
    memory_and_speed = _cost(classifier, batches[0])  # before more than a batch was held
    found = answer(classifier, batches)
    # The logits of a network that knows little may all lie in [0, 1].
    if found.kind == "softmax" or (
        found.kind == "sigmoid" and stays_in_unit_interval(classifier, batches[0])
    ):
        raise InputError(probabilities_refused(found.kind))
    overall, of_classes = accuracies(found.logits, labels, classifier.num_classes)
    error, bins = calibration(found.logits, labels, num_bins)
    flow = _gradient(gradient(classifier, batches[0]))
    some = [*batches[: -(-COMPARED // len(batches[0]))]]
    rows = slice(sum(len(part) for part in some))
    compared = Answers(found.outputs[rows], found.logits[rows], found.lowest, found.highest)
    called = found.logits.argmax(dim=1)
    swapped = _called_instead(called, labels, classifier.num_classes) is not None
    others = [] if swapped else better_inputs(classifier, some, labels[rows], compared)
    lines: tuple[Line, ...] = (
        _input(classifier, found),
        _outputs(classifier, found),
        _accuracy(classifier, found, labels, overall),
        _range(compared, labels[rows], others, swapped),
        ("calibration", "ok", f"expected calibration error {error:.3f}, {num_bins} bins", ""),
        flow,
        *memory_and_speed,
    )
    name, mark, text, remedy = flow
    fault = f"the {name} {text}; {remedy}" if mark == "fault" else ""
    return Report(lines, _tables(classifier.class_names, of_classes, bins), fault)


def _input(classifier: FrozenClassifier, found: Answers) -> Line:
    takes = classifier.adapter
    mean, std = (_list(x.flatten().tolist()) for x in (takes.mean, takes.std))
    given = ", ".join(
        f"{low:.2f} to {high:.2f}" for low, high in zip(found.lowest, found.highest, strict=True)
    )
    text = (
        f"{takes.input_resolution_px} px, {takes.input_channels} channels, range "
        f"[{takes.low:g}, {takes.high:g}], mean {mean}, std {std}; by channel it was given {given}"
    )
    return "input", "ok", text, ""


def _outputs(classifier: FrozenClassifier, found: Answers) -> Line:
    low, high = float(found.outputs.min()), float(found.outputs.max())
    text = f"logits, {found.outputs.shape[1]} an image, {low:.2f} to {high:.2f}"
    if classifier.reading.output is not None:
        text += f"; explained as {' against '.join(classifier.class_names)}"
    if not bool(found.outputs.isfinite().all()):
        remedy = "correct classifier.input_range, mean and std, or the network"
        return "outputs", "warning", f"{text}, of which some are not finite", remedy
    return "outputs", "ok", text, ""


def _accuracy(
    classifier: FrozenClassifier, found: Answers, labels: Labels, overall: Estimate
) -> Line:
    called, names = found.logits.argmax(dim=1), classifier.class_names
    commonest = float(labels.bincount().max() / len(labels))
    text = _estimate(overall)
    order = _called_instead(called, labels, len(names))
    if order is not None:
        pairs = ", ".join(
            f"'{names[k]}' is called '{names[c]}'" for k, c in enumerate(order) if k != c
        )
        remedy = (
            "are the classes in the network's order? give classifier.label_names=[NAME,...]"
            if classifier.reading.output is None
            else "is the data's first class the one without the label? rename it, if not"
        )
        return "accuracy", "warning", f"{text}; {pairs}", remedy
    if overall.interval is not None and overall.interval[0] <= commonest:
        text += f", no better than calling all the commonest class ({commonest:.3f})"
        remedy = "check the weights, the input and the classes' order"
        return "accuracy", "warning", text, remedy
    return "accuracy", "ok", text, ""


def _called_instead(called: Labels, labels: Labels, num_classes: int) -> list[int] | None:
    """What each class is mostly called, if that is a class each, and not its own for some."""
    mostly = []
    for k in range(num_classes):
        own = called[labels == k]
        if not len(own):
            return None
        mostly.append(int(own.bincount(minlength=num_classes).argmax()))
    is_order = sorted(mostly) == list(range(num_classes))
    return mostly if is_order and mostly != list(range(num_classes)) else None


def _range(own: Answers, labels: Labels, others: list[OtherInput], swapped: bool) -> Line:
    if swapped:  # an input that confuses classes would seem to mend their order
        return "other inputs", "ok", "not tried as long as classes are called each other", ""
    if not others:
        text = f"no usual one is right more often, of {len(labels)} images"
        return "other inputs", "ok", text, ""
    best = others[0]
    was = float((own.logits.argmax(dim=1) == labels).float().mean())
    remedy = (
        f"classifier.input_range={_list(best.input_range)} classifier.mean={_list(best.mean)} "
        f"classifier.std={_list(best.std)}"
    )
    text = f"another one is right more often: {_estimate(best.accuracy)}, in place of {was:.3f}"
    return "other inputs", "warning", text, remedy


def _gradient(flow: Gradient) -> Line:
    remedy = "training and search need it: take out what stops it (rounding, detach, no_grad)"
    if not flow.finite:
        return "gradient", "fault", "of the logits must be finite, got another", remedy
    if not flow.touched:
        return "gradient", "fault", "of the logits must reach the image, got 0 everywhere", remedy
    text = f"reaches {flow.touched:.1%} of the pixels, mean length {flow.norm:.3g}"
    if flow.touched < LITTLE:
        return "gradient", "warning", text, "the rest of the image moves no decision: is it meant?"
    return "gradient", "ok", text, ""


def _cost(classifier: FrozenClassifier, images: Images) -> tuple[Line, Line]:
    device, found = classifier.adapter.mean.device, cost(classifier, images)
    how = "most allocated" if device.type == "cuda" else "the resident set grew by"
    memory = f"{how} {found.peak_bytes / MEGABYTE:.0f} MiB for {len(images)} images"
    speed = f"{found.forward:.0f} images/s, with gradients {found.backward:.0f}, on {device}"
    return ("memory", "ok", memory, ""), ("speed", "ok", speed, "")


def _tables(names: Sequence[str], of_classes: Sequence[Estimate], bins: Sequence[Bin]) -> str:
    worst = sorted(range(len(names)), key=lambda k: of_classes[k].value or 0.0)[:SHOWN_CLASSES]
    left_out = len(names) - len(worst)
    width = max(len(names[k]) for k in worst)
    lines = ["", "accuracy of each class" + (f" (the worst {len(worst)})" if left_out else "")]
    lines += [f"  {names[k]:{width}}  {_estimate(of_classes[k])}" for k in sorted(worst)]
    lines += ["", "reliability: of images called with a probability in the interval"]
    lines += [
        f"  {b.above:.2f} to {b.upto:.2f}  mean {b.confidence:.3f}, right {_estimate(b.accuracy)}"
        for b in bins
        if b.accuracy.num_images
    ]
    return "\n".join(lines)


def _estimate(found: Estimate) -> str:
    if found.value is None or found.interval is None:
        return "no images"
    low, high = found.interval
    return f"{found.value:.3f} (95 %: {low:.3f} to {high:.3f}) of {found.num_images} images"


def _list(values: Sequence[float]) -> str:
    return f"[{','.join(f'{value:.6g}' for value in values)}]"
