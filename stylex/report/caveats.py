"""What a reader must know before believing a search: its weak points, in sentences."""

from collections.abc import Callable

from stylex.report import wording
from stylex.report.results import Attribute, Results

LEAST_AGREEMENT = 0.95  # of decisions on copies and images
MOST_DISTANCE = 0.15  # mean absolute difference of copy and image, on [-1, 1]
LEAST_FLIPPED, HARDLY_ANY = 0.5, 0.1
LEAST_IMAGES = 20
FEW_NEAR = 2  # reference images near an extreme; fewer make it a lone outlier


def caveats(results: Results) -> list[str]:
    """The weak points of a search, the gravest first; empty if none is known."""
    found = (
        _agreement(results),
        _copied(results),
        _flipped(results),
        _few(results),
        _nothing(results),
        _random(results),
        _outliers(results),
        _distance(results),
        _unstable(results),
        _unseen(results),
    )
    return [text for text in found if text]


def _agreement(results: Results) -> str:
    agreement = results.metrics["agreement"]
    if agreement.value is None or agreement.value >= LEAST_AGREEMENT:
        return ""
    return (
        f"For {wording.percent(1 - agreement.value)} of the images, the classifier decides "
        "otherwise about the generator’s copy than about the image itself. What is found here "
        "holds for the copies."
    )


def _copied(results: Results) -> str:
    if not results.is_one_image:
        return ""
    gallery = results.gallery
    said, copied = (
        int(p[0].argmax())
        for p in (gallery.image_probabilities, gallery.ladder_probabilities[:, 0])
    )
    if said == copied:
        return ""
    names = results.class_names
    return (
        f"The classifier calls this image {names[said]}, but its copy, which is explained here, "
        f"{names[copied]}."
    )


def _flipped(results: Results) -> str:
    share = results.sufficiency.get(results.num_together)
    if share is None or share.value is None or share.value >= LEAST_FLIPPED:
        return ""
    if results.is_one_image:
        return "All attributes together do not turn the decision: they do not explain it."
    part = "hardly explain it" if share.value < HARDLY_ANY else "explain it in part"
    return (
        f"All attributes together turn the decision of {wording.percent(share.value)} of the "
        f"images only: they {part}."
    )


def _few(results: Results) -> str:
    held = results.attributes[0].effect.num_images
    if results.is_one_image or held >= LEAST_IMAGES:
        return ""
    return f"Effects are measured on {held} images only; their intervals are wide."


def _nothing(results: Results) -> str:
    def is_none(attribute: Attribute) -> bool:
        interval = attribute.effect.interval
        return interval is not None and interval[0] <= 0

    weak = "" if results.is_one_image else _ranks(results, is_none)
    if not weak:
        return ""
    why = " Picked for what is added to those before." if results.selector == "joint" else ""
    return f"{weak}: no effect alone is certain (the interval of its mean reaches 0).{why}"


def _random(results: Results) -> str:
    weak = _ranks(
        results,
        lambda a: a.evidence.q is not None and a.evidence.q > wording.SIGNIFICANT,
    )
    if not weak:
        return ""
    return (
        f"{weak} of the attributes: classifiers with shuffled weights react to the same change as "
        "much (q above 0.05). It may be large rather than telling."
    )


def _outliers(results: Results) -> str:
    def is_lone(attribute: Attribute) -> bool:
        near = attribute.evidence.near
        return near.value is not None and near.value * near.num_images < FEW_NEAR

    lone = _ranks(results, is_lone)
    return f"{lone}: moved to a value that a single reference image takes." if lone else ""


def _distance(results: Results) -> str:
    distance = results.metrics["reconstruction_l1"]
    if distance.value is None or distance.value <= MOST_DISTANCE:
        return ""
    return (
        f"Copies differ from their images by {distance.value:.3f} per pixel (on a scale from −1 to "
        "1): attributes in finer detail than the copies keep cannot be found."
    )


def _unstable(results: Results) -> str:
    count = results.selection.num_unstable
    images = "image was" if count == 1 else "images were"
    return f"{count} {images} left out, on which many edits have huge effects." if count else ""


def _unseen(results: Results) -> str:
    unseen = _ranks(results, lambda a: a.pictures is None)
    return f"{unseen}: not shown, since fewer than 3 of the images tried show it." if unseen else ""


def _ranks(results: Results, holds: Callable[[Attribute], bool]) -> str:
    found = tuple(a.rank for a in results.attributes if holds(a))
    return wording.ranks(found) if found else ""
