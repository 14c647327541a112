"""What each figure of the scorecard is called, and how to read it, in plain words."""

from dataclasses import dataclass

from stylex.evaluation.counterfactual.measurement import (
    TO_RECONSTRUCTION,
    Judges,
    Settings,
    fid_split_name,
)


@dataclass(frozen=True)
class Reading:
    """A row's text.

    Attributes:
        name: Of the metric, as it is measured.
        title: As people read it.
        text: How to read it.
        base: What the figure compares with.
    """

    name: str
    title: str
    text: str
    base: str = ""


def readings(judges: Judges, settings: Settings) -> tuple[Reading, ...]:
    """Gives the texts of all rows, in the order to be read.

    Args:
        judges: Networks; their names are part of the titles.
        settings: Numbers that the texts state.
    """
    return (
        *_decisions(),
        *_distances(settings, "original", ""),
        *_distances(settings, "reconstruction", TO_RECONSTRUCTION),
        *_identity(judges),
        *_networks(),
        *(
            Reading(
                fid_split_name(network),
                f"fid_split with {network}",
                "Distance of changed images from other originals, in features of "
                f"{network}. Low looks real. It favours doing nothing, and it needs many images.",
                "original",
            )
            for network in judges.features
        ),
        *_survival(settings),
    )


def _decisions() -> tuple[Reading, ...]:
    return (
        Reading(
            "flip_rate",
            "Flip rate",
            "Share of images that the classifier calls the target after the change. An attack "
            "gets a high value too.",
        ),
        Reading(
            "flip_rate_untargeted",
            "Decision changed to any class",
            "Share of images that the classifier calls something else than before.",
            "original",
        ),
        Reading(
            "flip_rate_oracle",
            "Flips by an independent classifier",
            "Share that a second classifier, trained on its own, calls the target. If it is far "
            "below the flip rate, the change is a trick, not a feature.",
        ),
        Reading(
            "score_change",
            "Mean score change (MAD)",
            "How much the probability of the target moves, from 0 to 1.",
            "original",
        ),
        Reading(
            "edits_to_flip",
            "Edits to flip, mean",
            "How many edits together it takes to flip an image. Low is simple. Images that never "
            "flip do not count here.",
            "reconstruction",
        ),
        Reading(
            "edits_to_flip_median",
            "Edits to flip, median",
            "Half of the images that flip need no more edits than this.",
            "reconstruction",
        ),
        Reading(
            "never_flips",
            "Never flips",
            "Share of images that no number of edits flips.",
            "reconstruction",
        ),
        Reading(
            "cout",
            "COUT",
            "From -1 to 1. High means that the most changed pixels alone move the decision. It "
            "also rewards an attack.",
            "original",
        ),
        Reading(
            "diversity",
            "Diversity (L1)",
            "How unlike the single edits of an image are, from 0 to 1. Noise is diverse too.",
        ),
    )


def _distances(settings: Settings, base: str, ending: str) -> tuple[Reading, ...]:
    threshold = f"{settings.changed_threshold:.3g}"
    to = "original" if base == "original" else "model's copy"
    tail = (
        "It includes the copy's own errors."
        if base == "original"
        else "The copy's own errors do not count."
    )
    return (
        Reading(
            "sparsity" + ending,
            f"Pixels more than {threshold} from the {to}",
            f"Share of the pixels that differ from the {to} by more than {threshold} of the full "
            f"range. Low is local. {tail}",
            base,
        ),
        Reading(
            "l1" + ending,
            f"L1 to the {to}",
            f"Mean difference from the {to}, from 0 to 1. Low is a small change, but an attack is "
            f"small too. {tail}",
            base,
        ),
        Reading(
            "l2" + ending,
            f"L2 to the {to} (root mean square)",
            f"As L1, but a few large differences from the {to} weigh more. {tail}",
            base,
        ),
        Reading(
            "lpips" + ending,
            f"LPIPS to the {to}",
            f"Difference from the {to} as the given network sees it. Low looks alike. {tail}",
            base,
        ),
    )


def _identity(judges: Judges) -> tuple[Reading, ...]:
    if (identity := judges.identity) is None:
        return ()
    return (
        Reading(
            "fva",
            "Same identity (FVA)",
            f"Share of images that {identity.name} takes for the same as before, at a cosine above "
            f"{identity.same_cosine:.2f}. Doing nothing gives 1.",
            "original",
        ),
        Reading(
            "fs",
            "Identity similarity (FS)",
            f"How alike the images are to {identity.name}, from -1 to 1. Doing nothing gives 1.",
            "original",
        ),
    )


def _networks() -> tuple[Reading, ...]:
    return (
        Reading(
            "s3",
            "SimSiam similarity (S3)",
            "How alike the images are to a network that knows no classes, from -1 to 1. Doing "
            "nothing gives 1.",
            "original",
        ),
        Reading(
            "mnac",
            "Attributes changed (MNAC)",
            "How many attributes differ. The one asked for counts, so about 1 is ideal.",
            "original",
        ),
        Reading(
            "cd",
            "Correlation difference (CD)",
            "Low means that attributes change together as they occur together in the data. So it "
            "rewards repeating the data's bias: do not choose a method by it.",
            "original",
        ),
    )


def _survival(settings: Settings) -> tuple[Reading, ...]:
    noise = f"{settings.noise_std:.2g}"
    tail = "A real change survives; an attack often does not."
    return (
        Reading(
            "survives_jpeg",
            f"Survives JPEG {settings.jpeg_quality}",
            f"Share that flips, and still does after the file is compressed. {tail}",
        ),
        Reading(
            "survives_shift",
            "Survives a shift",
            "Share that flips, and still does after a shift by one pixel, in all four directions. "
            f"{tail}",
        ),
        Reading(
            "survives_noise",
            "Survives noise",
            f"Share that flips, and still does with noise of standard deviation {noise} of the "
            f"full range. {tail}",
        ),
    )


def not_computed(judges: Judges) -> str:
    """Says in a sentence which figures are missing and what to give; empty if none is."""
    attributes = judges.attributes
    missing = [
        what
        for what, is_missing in (
            ("flips by an independent classifier (give a second one)", judges.oracle is None),
            ("LPIPS (give a distance network)", judges.lpips is None),
            ("FVA and FS (give an embedding as identity)", judges.identity is None),
            ("S3 (give a SimSiam embedding)", judges.simsiam is None),
            ("MNAC and CD (give an attribute reader)", attributes is None),
            (
                "CD (give the correlations of the training labels)",
                attributes is not None and attributes.train_correlations is None,
            ),
            ("fid_split (give a feature network)", not judges.features),
        )
        if is_missing
    ]
    return f"Not computed: {', '.join(missing)}." if missing else ""
