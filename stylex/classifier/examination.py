"""What a classifier is given and answers on labelled images, before anything is trained on it.

Pure measurements; `stylex.doctor` puts them into words.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.classifier.adapter import Adapter
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.reading import kind_of_outputs
from stylex.estimates import Z_95, Estimate, share
from stylex.types import Images, Labels

Batch = Float[Tensor, "_ c h w"]  # of any number of images

SPEED_S = 0.5  # least time that a speed is measured for
EXTREME = (-1e3, -30.0, 30.0, 1e3)  # times the images' own values
SPEED_PASSES = 20  # or this many passes
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of red, green and blue
# Inputs that networks are usually trained with: range, mean, standard deviation.
USUAL = (
    ((0.0, 1.0), MEAN, STD),
    ((0.0, 1.0), (0.0,), (1.0,)),
    ((-1.0, 1.0), (0.0,), (1.0,)),
    ((0.0, 255.0), (0.0,), (1.0,)),
    ((0.0, 255.0), tuple(255 * m for m in MEAN), tuple(255 * s for s in STD)),
    ((0.0, 255.0), (123.68, 116.779, 103.939), (1.0,)),  # Caffe's mean, in RGB
    ((0.0, 1.0), (0.1307,), (0.3081,)),  # MNIST's
)


@dataclass(frozen=True)
class Answers:
    """What a network says of images.

    Attributes:
        outputs: Its own, [n o].
        logits: Of the classes, as its reading makes them.
        lowest: Smallest value that it was given, of every channel.
        highest: Largest.
    """

    outputs: Float[Tensor, "n o"]
    logits: Float[Tensor, "n k"]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]

    @property
    def kind(self) -> str:
        """See `kind_of_outputs`."""
        return kind_of_outputs(self.outputs)


@dataclass(frozen=True)
class Bin:
    """Images whose highest probability lies in an interval.

    Attributes:
        above: Lower end, excluded but for 0.
        upto: Upper end.
        confidence: Their mean highest probability; 0 without images.
        accuracy: Share of them that are called as labelled.
    """

    above: float
    upto: float
    confidence: float
    accuracy: Estimate


@dataclass(frozen=True)
class Gradient:
    """What comes back from the logit of the class that an image is called.

    Attributes:
        finite: Whether every value is.
        touched: Share of pixels (any channel) at which it is not 0.
        norm: Mean length over images.
    """

    finite: bool
    touched: float
    norm: float


@dataclass(frozen=True)
class Cost:
    """What running takes.

    Attributes:
        forward: Images per second.
        backward: Images per second of a forward and a backward pass to the image.
        peak_bytes: On CUDA the most memory that was allocated; on a CPU what the largest resident
            set grew by, 0 if it had been as large before.
    """

    forward: float
    backward: float
    peak_bytes: int


@dataclass(frozen=True)
class OtherInput:
    """A usual input that is declared by nobody, and how often it would be right.

    Attributes:
        input_range: Of black and white.
        mean: Subtracted.
        std: Divided by.
        accuracy: With this input.
    """

    input_range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    accuracy: Estimate


@torch.no_grad()
def answer(classifier: FrozenClassifier, batches: Iterable[Batch]) -> Answers:
    """Runs images through a classifier."""
    outputs, logits, lowest, highest = [], [], [], []
    for images in batches:
        there = images.to(classifier.adapter.mean.device)
        given = classifier.adapter(there).transpose(0, 1).flatten(1)
        lowest.append(given.amin(dim=1).cpu())
        highest.append(given.amax(dim=1).cpu())
        outputs.append(classifier.outputs(there).float().cpu())
        logits.append(classifier.reading.logits(outputs[-1], classifier.class_names))
    return Answers(
        torch.cat(outputs),
        torch.cat(logits),
        tuple(torch.stack(lowest).amin(dim=0).tolist()),
        tuple(torch.stack(highest).amax(dim=0).tolist()),
    )


@torch.no_grad()
def stays_in_unit_interval(classifier: FrozenClassifier, images: Images) -> bool:
    """Whether no input, however extreme, brings an output out of [0, 1].

    Probabilities stay there; logits that happen to lie there grow with the input.
    """
    there = images.to(classifier.adapter.mean.device)
    found = [classifier.outputs(there * scale).double() for scale in EXTREME]
    return all(bool(((x >= 0) & (x <= 1))[x.isfinite()].all()) for x in found)


def accuracies(
    logits: Float[Tensor, "n k"], labels: Labels, num_classes: int
) -> tuple[Estimate, list[Estimate]]:
    """Share of images called as labelled: of all, and of every class's own."""
    right = logits.argmax(dim=1) == labels
    return share(right), [share(right[labels == k]) for k in range(num_classes)]


def calibration(
    logits: Float[Tensor, "n k"], labels: Labels, num_bins: int
) -> tuple[float, list[Bin]]:
    """Expected calibration error and the reliability of every bin of equal width.

    The error is the mean over images of how far their bin's accuracy is from its confidence.
    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599), eq. 3.
    """
    confidence, called = logits.double().softmax(dim=1).max(dim=1)
    right, error, bins = called == labels, 0.0, []
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
    of_bin = (torch.searchsorted(edges, confidence) - 1).clamp(0, num_bins - 1)
    for i in range(num_bins):
        inside = of_bin == i
        accuracy = share(right[inside])
        mean = float(confidence[inside].mean()) if accuracy.num_images else 0.0
        bins.append(Bin(float(edges[i]), float(edges[i + 1]), mean, accuracy))
        error += accuracy.num_images / len(labels) * abs((accuracy.value or 0.0) - mean)
    return error, bins


def gradient(classifier: FrozenClassifier, images: Images) -> Gradient:
    """The gradient of each image's highest logit with respect to the image."""
    there = images.to(classifier.adapter.mean.device).requires_grad_()
    with torch.enable_grad():
        best = classifier(there).amax(dim=1).sum()
        if not best.requires_grad:
            return Gradient(True, 0.0, 0.0)
        (found,) = torch.autograd.grad(best, there, allow_unused=True)
    if found is None:
        return Gradient(True, 0.0, 0.0)
    touched = (found != 0).any(dim=1).float().mean()
    return Gradient(
        bool(found.isfinite().all()), float(touched), float(found.flatten(1).norm(dim=1).mean())
    )


def cost(classifier: FrozenClassifier, images: Images) -> Cost:
    """Speed and memory of batches of these images."""
    device = classifier.adapter.mean.device
    there, before = images.to(device), _largest_resident_set()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def forward() -> None:
        with torch.no_grad():
            classifier(there)

    def both() -> None:
        asked = there.detach().requires_grad_()
        total = classifier(asked).sum()
        if total.requires_grad:
            total.backward()

    speeds = (
        _images_per_second(forward, len(images), device),
        _images_per_second(both, len(images), device),
    )
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = _largest_resident_set() - before
    return Cost(*speeds, peak)


def better_inputs(
    classifier: FrozenClassifier, batches: Sequence[Batch], labels: Labels, own: Answers
) -> list[OtherInput]:
    """Usual inputs with which the network would be right more often, the best first.

    More often means beyond chance, by a test at 5 % of the images that only one of the two inputs
    gets right (McNemar 1947).
    """
    right, adapter, found = own.logits.argmax(dim=1) == labels, classifier.adapter, []
    for input_range, mean, std in USUAL:
        if max(len(mean), len(std)) > adapter.input_channels:
            continue
        other = Adapter(
            input_resolution_px=adapter.input_resolution_px,
            input_channels=adapter.input_channels,
            input_range=input_range,
            mean=mean,
            std=std,
        ).to(adapter.mean.device)
        if other.declaration() == adapter.declaration():
            continue
        tried = FrozenClassifier(
            classifier.network, other, classifier.class_names, [], classifier.reading
        )
        other_right = answer(tried, batches).logits.argmax(dim=1) == labels
        if _beats(other_right, right):
            found.append(OtherInput(input_range, mean, std, share(other_right)))
    return sorted(found, key=lambda each: -(each.accuracy.value or 0.0))


def _beats(first: Bool[Tensor, " n"], second: Bool[Tensor, " n"]) -> bool:
    """Whether the first is right more often, by a two-sided test at 5 % of paired answers."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    return only_first - only_second > Z_95 * (only_first + only_second) ** 0.5


def _images_per_second(run: Callable[[], None], num_images: int, device: torch.device) -> float:
    run()  # warm
    passes, start = 0, _now(device)
    while passes < SPEED_PASSES and _now(device) - start < SPEED_S:
        run()
        passes += 1
    return passes * num_images / (_now(device) - start)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _largest_resident_set() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
