"""All figures of one set of counterfactuals: a method's, or a baseline's, measured alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.evaluation.counterfactual.attributes import CD, MNAC
from stylex.evaluation.counterfactual.decisions import flipped_to
from stylex.evaluation.counterfactual.identity import FS, FVA, S3
from stylex.evaluation.counterfactual.metric import CounterfactualMetric, Scores
from stylex.evaluation.counterfactual.networks import (
    AttributeReader,
    Classifier,
    Distance,
    Embedding,
    judge,
)
from stylex.evaluation.counterfactual.proximity import L1, L2, LPIPS, Sparsity
from stylex.evaluation.counterfactual.realism import FidSplit
from stylex.evaluation.counterfactual.robustness import SurvivalRate, compressed, noised, shifted
from stylex.evaluation.counterfactual.transition import COUT
from stylex.evaluation.counterfactual.validity import FlipRate, MeanScoreChange
from stylex.types import Labels, Logits, Pixels

TO_RECONSTRUCTION = "_reconstruction"  # ends the name of a distance to the model's copy


@dataclass(frozen=True)
class AttributeOracle:
    """Reads attributes.

    Attributes:
        reader: Images in [-1, 1] to the probability of each attribute.
        queried: Index of the attribute that the counterfactuals are to change.
        train_correlations: Of the queried attribute with each in the training labels; none leaves
            CD out.
    """

    reader: AttributeReader
    queried: int
    train_correlations: Float[Tensor, " a"] | None


@dataclass(frozen=True)
class Identity:
    """The network of FVA and FS, and how it is read.

    Attributes:
        embedding: Of faces in publications; of the data's own images as well.
        same_cosine: Least cosine of two images of one identity; 0.5 in publications.
        name: In the middle of a sentence, such as "a face network".
    """

    embedding: Embedding
    same_cosine: float
    name: str


@dataclass(frozen=True)
class Judges:
    """Networks that judge. All take images in [-1, 1], in eval mode, on the pixels' device.

    Attributes:
        classifier: The one under explanation; differentiable.
        oracle: Trained independently on the same classes, in the same order.
        lpips: Perceptual distance.
        identity: For FVA and FS.
        simsiam: Self-supervised embedding, for S3.
        attributes: Attribute oracle, for MNAC and CD.
        features: Feature networks of fid_split, by the name that is printed.
    """

    classifier: Classifier
    oracle: Classifier | None = None
    lpips: Distance | None = None
    identity: Identity | None = None
    simsiam: Embedding | None = None
    attributes: AttributeOracle | None = None
    features: Mapping[str, Embedding] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What changes the figures. Changes are in units of [0, 1].

    Attributes:
        changed_threshold: Largest change of a pixel that does not count.
        num_transition_steps: Of COUT; 50 in publications.
        num_splits: Of fid_split; 10 in publications.
        attack_epsilon: Largest change by the attack; 8/255 is common.
        attack_steps: Of the attack; 20 is common.
        jpeg_quality: Of the compression that flips must survive; 90.
        noise_std: Of the noise that flips must survive; 2/255.
        batch_size: Largest number of images at once.
        seed: Of splits and noise.
    """

    changed_threshold: float
    num_transition_steps: int
    num_splits: int
    attack_epsilon: float
    attack_steps: int
    jpeg_quality: int
    noise_std: float
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Sources:
    """Images that counterfactuals are made from; the classifier calls none of them the target.

    Attributes:
        images: Originals.
        reconstructions: The model's copies.
        logits: The classifier's, of the originals.
        target: Class to be reached.
    """

    images: Pixels
    reconstructions: Pixels
    logits: Logits
    target: int

    @property
    def targets(self) -> Labels:
        """The target, once an image."""
        return torch.full_like(self.logits.argmax(dim=1), self.target)


def measure(
    after: Pixels, sources: Sources, judges: Judges, settings: Settings
) -> dict[str, Scores]:
    """Computes every metric that the judges at hand allow, by name.

    Args:
        after: Counterfactuals, one a source.
        sources: What they were made from.
        judges: Networks.
        settings: What changes the figures.
    """
    logits = judge(judges.classifier, after, settings.batch_size)
    return {
        **_decisions(after, logits, sources, judges, settings),
        **_pairs(after, logits, sources, judges, settings),
        **_survival(after, logits, sources, judges, settings),
    }


def _decisions(
    after: Pixels, logits: Logits, sources: Sources, judges: Judges, settings: Settings
) -> dict[str, Scores]:
    targets, valid = sources.targets, flipped_to(logits, sources.target)
    targeted, untargeted = FlipRate(targeted=True), FlipRate(targeted=False)
    change = MeanScoreChange()
    targeted.update(logits, targets, valid)
    untargeted.update(logits, sources.logits.argmax(dim=1), valid)
    change.update(sources.logits.softmax(dim=1), logits.softmax(dim=1), targets, valid)
    metrics: dict[str, CounterfactualMetric] = {
        "flip_rate": targeted,
        "flip_rate_untargeted": untargeted,
        "score_change": change,
    }
    if judges.oracle is not None:
        oracle = FlipRate(targeted=True)
        oracle.update(judge(judges.oracle, after, settings.batch_size), targets, valid)
        metrics["flip_rate_oracle"] = oracle
    return {name: metric.scores() for name, metric in metrics.items()}


def _pairs(
    after: Pixels, logits: Logits, sources: Sources, judges: Judges, settings: Settings
) -> dict[str, Scores]:
    targets, valid = sources.targets, flipped_to(logits, sources.target)
    metrics = _pair_metrics(judges, settings)
    transition = COUT(
        judges.classifier,
        num_steps=settings.num_transition_steps,
        batch_size=settings.batch_size,
    )
    for rows in torch.arange(len(after)).split(settings.batch_size):
        originals, copies = sources.images[rows], sources.reconstructions[rows]
        for name, metric in metrics.items():
            before = copies if name.endswith(TO_RECONSTRUCTION) else originals
            metric.update(before, after[rows], valid[rows])
        transition.update(originals, after[rows], targets[rows], valid[rows])
    return {name: metric.scores() for name, metric in {**metrics, "cout": transition}.items()}


def _pair_metrics(judges: Judges, settings: Settings) -> dict[str, CounterfactualMetric]:
    """Metrics of an image and its counterfactual."""
    found: dict[str, CounterfactualMetric] = {}
    for base in ("", TO_RECONSTRUCTION):
        found["sparsity" + base] = Sparsity(threshold=settings.changed_threshold)
        found["l1" + base], found["l2" + base] = L1(), L2()
        if judges.lpips is not None:
            found["lpips" + base] = LPIPS(judges.lpips)
    if (identity := judges.identity) is not None:
        found["fva"] = FVA(identity.embedding, same_cosine=identity.same_cosine)
        found["fs"] = FS(identity.embedding)
    if judges.simsiam is not None:
        found["s3"] = S3(judges.simsiam)
    if (oracle := judges.attributes) is not None:
        found["mnac"] = MNAC(oracle.reader)
        if oracle.train_correlations is not None:
            found["cd"] = CD(
                oracle.reader,
                queried=oracle.queried,
                train_correlations=oracle.train_correlations,
            )
    for name, network in judges.features.items():
        found[fid_split_name(name)] = FidSplit(
            network, num_splits=settings.num_splits, seed=settings.seed
        )
    return found


def fid_split_name(network: str) -> str:
    """Names the figure after its feature network."""
    return f"fid_split_{network}"


def _survival(
    after: Pixels, logits: Logits, sources: Sources, judges: Judges, settings: Settings
) -> dict[str, Scores]:
    generator = torch.Generator().manual_seed(settings.seed)
    disturbed = {
        "survives_jpeg": (compressed(after, settings.jpeg_quality),),
        "survives_shift": shifted(after),
        "survives_noise": (noised(after, settings.noise_std, generator),),
    }
    found = {}
    for name, forms in disturbed.items():
        metric = SurvivalRate()
        metric.update(
            [judge(judges.classifier, form, settings.batch_size) for form in forms],
            sources.targets,
            flipped_to(logits, sources.target),
        )
        found[name] = metric.scores()
    return found
