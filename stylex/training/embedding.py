"""Steps of an embedding's training: images of one class near, of other classes apart.

Everything random in a step, dropout and augmentation, follows from seed and step, so that a run
that goes on needs no random state. Losses and miners are pytorch-metric-learning's; distances are
Euclidean ones between vectors of length 1, from 0 to 2.
Sources: Hadsell et al. 2006 (contrastive), Schroff et al. 2015 (triplet, semi-hard), Hermans et
al. 2017 (hardest of a batch), Zhai & Wu 2019 (cross-entropy on normalised vectors).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.classifier.embedding import Embedding
from stylex.data.steps import step_seed
from stylex.errors import InputError
from stylex.types import Images, Labels


def choose_device(trainer: Mapping[str, Any]) -> torch.device:
    """The one device that the configuration's `trainer` names.

    Raises:
        InputError: If it asks for what a plain loop does not do.
    """
    if "strategy" in trainer:
        raise InputError("task=embedding trains in one process, got trainer=ddp; leave it out")
    for key, kept in (("devices", 1), ("precision", "32-true")):
        if trainer[key] != kept:
            raise InputError(
                f"task=embedding trains with trainer.{key}={kept}, got {trainer[key]}; leave it out"
            )
    name, has_gpu = trainer["accelerator"], torch.cuda.is_available()
    if name not in ("auto", "cpu", "gpu", "cuda"):
        raise InputError(f"trainer.accelerator must be auto, cpu or gpu, got '{name}'")
    if name in ("gpu", "cuda") and not has_gpu:
        raise InputError(f"trainer.accelerator={name} needs a GPU, got none; give cpu")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def build_loss(
    name: str, *, num_classes: int, dim: int, temperature: float, margin: float, apart: float
) -> nn.Module:
    """A loss of embeddings and labels, and of mined indices or none; it may have parameters.

    Args:
        name: As `check_objective` lets it through.
        num_classes: Trained on.
        dim: Length of the vectors.
        temperature: Of the cross-entropy: cosines are divided by it.
        margin: Of the triplets.
        apart: Distance beyond which the contrastive loss pushes two classes no further.
    """
    from pytorch_metric_learning import distances, losses

    if name == "cross_entropy":
        return losses.NormalizedSoftmaxLoss(num_classes, dim, temperature)
    if name == "contrastive":
        return losses.ContrastiveLoss(0.0, apart, distance=distances.LpDistance())
    return losses.TripletMarginLoss(margin, distance=distances.LpDistance())


def build_miner(name: str, margin: float) -> nn.Module | None:
    """Chooses the triplets of a batch that are trained on; none leaves all of them.

    Args:
        name: "none"; "hard": of every image the farthest of its class and the nearest of the
            others; "semi_hard": all with d(a, p) < d(a, n) <= d(a, p) + margin.
        margin: Of semi-hard ones, as of the loss.
    """
    from pytorch_metric_learning import distances, miners

    if name == "hard":
        return miners.BatchHardMiner(distance=distances.LpDistance())
    if name == "semi_hard":
        return miners.TripletMarginMiner(margin, "semihard", distance=distances.LpDistance())
    return None


class EmbeddingTraining:
    """An embedding with its loss and AdamW, one batch a step."""

    def __init__(
        self,
        embedding: Embedding,
        settings: Mapping[str, Any],
        *,
        loss: str,
        miner: str,
        num_classes: int,
        seed: int,
    ) -> None:
        """Prepares training.

        Args:
            embedding: To be trained, on its device.
            settings: The configuration's `training`.
            loss: As `check_objective` lets it through.
            miner: As `check_objective` lets it through.
            num_classes: Trained on.
            seed: Of augmentation and dropout; the loss's own weights start from it too.
        """
        self.embedding, self.seed, self.step = embedding, seed, 0
        self.num_steps, self.learning_rate = settings["num_steps"], settings["learning_rate"]
        self.flip_share, self.noise_std = settings["flip_share"], settings["noise_std"]
        self.device = next(embedding.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.loss = build_loss(
                loss,
                num_classes=num_classes,
                dim=embedding.dim,
                temperature=settings["temperature"],
                margin=settings["margin"],
                apart=settings["apart"],
            ).to(self.device)
        self.miner = build_miner(miner, settings["margin"])
        trained = [*embedding.parameters(), *self.loss.parameters()]
        self.optimiser = torch.optim.AdamW(
            trained, self.learning_rate, weight_decay=settings["weight_decay"]
        )

    def train_on(self, images: Images, labels: Labels) -> dict[str, float]:
        """Does one step.

        Returns:
            The loss and, with a miner, the number of mined triplets.
        """
        images, labels = images.to(self.device), labels.to(self.device)
        rate = self.learning_rate * (1 + math.cos(math.pi * self.step / self.num_steps)) / 2
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with _repeatable(step_seed(self.seed, self.step), self.device):
            vectors = self.embedding(self._augmented(images))
            mined = None if self.miner is None else self.miner(vectors, labels)
            loss = self.loss(vectors, labels, mined)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        self.step += 1
        found = {"loss": float(loss.detach())}
        return found if mined is None else {**found, "mined": float(len(mined[0]))}

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on as if it had never stopped."""
        return {
            "step": self.step,
            "embedding": self.embedding.state_dict(),
            "loss": self.loss.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.step = state["step"]
        self.embedding.load_state_dict(state["embedding"])
        self.loss.load_state_dict(state["loss"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _augmented(self, images: Images) -> Images:
        mirrored = torch.rand(len(images)).to(images.device) < self.flip_share
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        noise: Float[Tensor, "b c h w"] = torch.randn(images.shape).to(images.device)
        return images + self.noise_std * noise


@contextmanager
def _repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds what libraries draw inside the block, and on a CPU sums in a fixed order."""
    strict = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        try:
            torch.use_deterministic_algorithms(strict or device.type == "cpu", warn_only=warns)
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warns)
