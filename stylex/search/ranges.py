"""What the numbers of a search may be."""

from stylex.ranges import COUNT, NUMBER, POSITIVE, SHARE, SIZE, Range

SEARCH = {
    "num_attributes": COUNT,
    "num_images": COUNT,
    "picks_per_round": COUNT,
    "num_candidates": COUNT,
    "num_shown": COUNT,
    "num_swept": NUMBER,
    "num_edited": NUMBER,
    "num_random": NUMBER,
    "audit_images": Range(2, 10**12, whole=True),
    "tolerance": Range(0, 10**6),
    "threshold": Range(0, 10**6),
    "max_image_effect": POSITIVE,
    "unstable_change": POSITIVE,
    "unstable_share": SHARE,
    "discriminator_change": POSITIVE,
    "quantile": Range(0, 0.5),
    "strength": Range(0, 1000, beyond=True),
    "least_rise": Range(-1, 1),
    "moved": Range(0, 10**6),
    "batch_size": SIZE,
}
