"""Numbers and captions in words, the same in pictures and on the page."""

from stylex.estimates import Estimate
from stylex.report.results import Attribute, Results

ABSENT = "not measured"
SHOWN_LABELS = 3
SIGNIFICANT = 0.05  # largest q


def percent(share: float | None) -> str:
    """A share as a whole percentage; what is nearly none or nearly all is not rounded to it."""
    if share is None:
        return ABSENT
    if 0 < share < 0.005:
        return "<1%"
    if 0.995 <= share < 1:
        return ">99%"
    return f"{share:.0%}"


def logits(change: float | None) -> str:
    """A change of a logit with its sign."""
    return ABSENT if change is None else f"{change:+.2f}".replace("-", "−")


def number(value: float, decimals: int) -> str:
    """A figure with so many decimals; thousands apart."""
    return f"{value:z,.{decimals}f}".replace("-", "−")


def interval(estimate: Estimate, decimals: int) -> str:
    """The 95 % interval of a figure in brackets; empty when there is none."""
    if estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f"[{number(low, decimals)}, {number(high, decimals)}]"


def counted(number: int, unit: str) -> str:
    """So many images, pairs, seeds or people."""
    return f"{number:,} {unit.removesuffix('s') if number == 1 else unit}"


def times(strength: float) -> str:
    """A strength as a factor."""
    return f"×{strength:g}"


def drawn_at(attribute: Attribute) -> str:
    """The strength of an attribute's pictures."""
    return "–" if attribute.shown_strength is None else times(attribute.shown_strength)


def tried(results: Results) -> str:
    """The strengths that an attribute's pictures are tried at."""
    if results.shown_strength <= results.strength:
        return f"strength {times(results.shown_strength)}"
    return f"any strength tried from {times(results.strength)} to {times(results.shown_strength)}"


def drawing(results: Results) -> str:
    """How far an attribute is changed in its pictures."""
    if results.shown_strength <= results.strength:
        return f"an attribute’s pictures are drawn at strength {times(results.shown_strength)}."
    return (
        "an attribute’s pictures are drawn at the strength, of those tried from "
        f"{times(results.strength)} to {times(results.shown_strength)}, at which the probability "
        f"of {results.target} rises most. It is written on each."
    )


def percent_interval(estimate: Estimate) -> str:
    """The 95 % interval of a share; empty when there is none."""
    if estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f"{percent(low)} to {percent(high)}"


def logits_interval(estimate: Estimate) -> str:
    """The 95 % interval of a mean; empty when there is none."""
    if estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f"{logits(low)} to {logits(high)}"


def count(estimate: Estimate) -> str:
    """A share as a number of images and its denominator."""
    if estimate.value is None:
        return ABSENT
    return f"{round(estimate.value * estimate.num_images)} of {estimate.num_images}"


def yes_no(estimate: Estimate) -> str:
    """A share of one image."""
    return ABSENT if estimate.value is None else "yes" if estimate.value > 0.5 else "no"


def first(number: int) -> str:
    """The ranks of the first attributes."""
    if number <= 2:
        return ("#1", "#1 and #2")[number - 1]
    return f"#1 to #{number}"


def ranks(numbers: tuple[int, ...]) -> str:
    """Some attributes, by rank: #2, #1 and #7."""
    *most, last = (f"#{number}" for number in numbers)
    return f"{', '.join(most)} and {last}" if most else last


def source(results: Results) -> str:
    """The class moved from."""
    return results.source or "any other class"


def move(results: Results) -> str:
    """From which class to which, and for which image if it is one."""
    classes = f"{source(results)} → {results.target}"
    image = results.explained_image
    return classes if image is None else f"image {image} · {classes}"


def edit(attribute: Attribute) -> str:
    """An attribute's rank, the name that people gave it, coordinate and direction."""
    given = "" if attribute.given_name is None else f"“{attribute.given_name}” · "
    return f"#{attribute.rank} · {given}{attribute.key}"


def together(results: Results) -> str:
    """Which attributes are changed together."""
    if results.num_together == 1:
        return f"{ranks(results.subset or (1,))} alone"
    if results.subset is not None:
        return f"{ranks(results.subset)} together"
    return f"all {results.num_together} together"


def attribute_caption(attribute: Attribute) -> str:
    """The caption of an attribute's pictures, with the strength that they are drawn at."""
    return f"{edit(attribute)} · strength {drawn_at(attribute)}"


def together_caption(results: Results) -> str:
    """The caption of the pictures of all attributes, with the strength that they are drawn at."""
    return f"{together(results)} · strength {times(results.strength)}"


def response(attribute: Attribute) -> str:
    """What more strength does."""
    evidence = attribute.evidence
    if evidence.saturating:
        return "rises with strength, then flattens"
    if evidence.monotone:
        return "rises with strength"
    strength, _ = max(evidence.doses, key=lambda dose: dose[1].value or 0.0)
    if strength == max(at for at, _ in evidence.doses):
        return f"rises unevenly, strongest at {times(strength)}"
    return f"strongest at {times(strength)}, weaker beyond"


def others(attribute: Attribute) -> str:
    """What an attribute does to the other labels that it moves most, in percentage points."""

    def points(change: float | None) -> str:
        return ABSENT if change is None else f"{100 * change:+.1f}".replace("-", "−")

    shown = attribute.others[:SHOWN_LABELS]
    return ", ".join(f"{name} {points(change.value)}" for name, change in shown)


def against_random(attribute: Attribute) -> str:
    """How the effect compares with that on classifiers of random weights."""
    q = attribute.evidence.q
    if q is None:
        return ABSENT
    said = "more than random weights react" if q <= SIGNIFICANT else "no more than random weights"
    return f"{said} (q = {q:.2g})"


def rank_range(attribute: Attribute) -> str:
    """Its rank on random halves of the images."""
    ranks = attribute.evidence.ranks
    if ranks is None:
        return ABSENT
    low, high = (f"{rank:g}" for rank in ranks)
    return low if low == high else f"{low} to {high}"


def selection(results: Results) -> str:
    """What the selection cost, and how sure it is."""
    found = results.selection
    parts = [f"Found with {found.passes:,} generator passes"]
    if found.effects == "screened":
        saving = found.exhaustive_passes / found.passes
        parts[0] += f", {saving:.1f} times fewer than measuring every edit"
        unit = "log-probability" if results.selector == "joint" else "logits"
        if found.bound is not None:
            parts.append(
                "no other edit’s mean gain exceeds a picked one’s by more than "
                f"{max(found.bound, 0.0):.2f} in {unit} (95% bound)"
            )
    else:
        parts[0] += ": every edit was measured"
    if found.num_unstable:
        parts.append(f"{found.num_unstable} unstable images left out")
    if found.num_rejected is not None:
        parts.append(f"{found.num_rejected} coordinates rejected by the discriminator")
    return "; ".join(parts) + "."
