"""Training of the classifier that will be explained."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.classifier.frozen import Adapter
from stylex.processes import Share, share
from stylex.types import Images, Labels, Logits


class ClassifierModule(LightningModule):
    """Cross-entropy with AdamW and a cosine schedule.

    A step is one batch; `step` counts them and is part of the saved state.
    """

    def __init__(
        self,
        network: nn.Module,
        adapter: Adapter,
        *,
        num_steps: int,
        learning_rate: float,
        weight_decay: float,
        label_smoothing: float,
        flip_share: float,
        noise_std: float,
        batch_size: int,
        seed: int,
    ) -> None:
        """Prepares training.

        Args:
            network: The network to train.
            adapter: Brings images in [-1, 1] to what the network takes.
            num_steps: Steps of the whole schedule.
            learning_rate: Highest learning rate.
            weight_decay: Of AdamW.
            label_smoothing: Share of the target spread over all classes.
            flip_share: Share of training images mirrored left to right.
            noise_std: Standard deviation of the normal noise added to training images, in units of
                [-1, 1].
            batch_size: Images of a step, over all processes.
            seed: Of the augmentation.
        """
        super().__init__()
        self.network, self.adapter = network, adapter
        self.num_steps, self.label_smoothing = num_steps, label_smoothing
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.flip_share, self.noise_std, self.seed = flip_share, noise_std, seed
        self.batch_size, self.share = batch_size, Share()
        self.step = 0

    def forward(self, images: Images) -> Logits:
        """Returns logits."""
        logits = self.network(self.adapter(images))
        return logits[:, None] if logits.ndim == 1 else logits

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, its rate falling to 0 along a cosine."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Finds this process's share of every batch, if several train together."""
        self.share = share(self.batch_size)

    def on_after_backward(self) -> None:
        """Averages the gradients over the processes; batch normalisation stays each one's own."""
        self.share.average(p.grad for p in self.network.parameters() if p.grad is not None)

    def training_step(
        self, batch: tuple[Images, Labels], batch_idx: int
    ) -> dict[str, Float[Tensor, ""]]:
        """Cross-entropy of one augmented batch."""
        images, labels = batch
        logits = self(self._augmented(images))
        if logits.shape[1] == 1:
            loss = F.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype))
        else:
            loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        self.step += 1
        # The processes' mean in value, for the record; this one's in gradient.
        return {"loss": loss + (self.share.mean(loss) - loss).detach()}

    def training_state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if it had never stopped."""
        optimiser, schedule = self._optimisation()
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "random": torch.get_rng_state(),  # dropout draws from it
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `training_state` gave."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        optimiser, schedule = self._optimisation()
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict({**state["schedule"], "T_max": schedule.T_max})
        torch.set_rng_state(state["random"])

    def _optimisation(
        self,
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.CosineAnnealingLR]:
        optimiser, schedule = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(optimiser, torch.optim.Optimizer)
        assert isinstance(schedule, torch.optim.lr_scheduler.CosineAnnealingLR)
        return optimiser, schedule

    def _augmented(self, images: Images) -> Images:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        chance = self.share.drawn(lambda n: torch.rand(n, generator=generator), len(images))
        mirrored = (chance < self.flip_share).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        noise = self.share.drawn(
            lambda n: torch.randn(n, *images.shape[1:], generator=generator), len(images)
        ).to(images.device)
        return images + self.noise_std * noise
