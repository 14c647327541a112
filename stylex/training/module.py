"""The StylEx training recipe.

A step is one batch of real images through all its phases: generator (with encoder), path length
every few steps, discriminator, R1 every few steps, running averages. Even steps take the noise
path, odd ones the encoder path.
Sources: Lang et al. 2021 (arXiv:2104.13369); Karras et al. 2020 (arXiv:1912.04958) for the
    regularisation.
"""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from stylex.gan.compute import precision, require_ops, switch
from stylex.gan.residual import Discriminator
from stylex.model import StylEx
from stylex.processes import Share, share
from stylex.training.adaptation import INTERVAL_STEPS, Adaptation
from stylex.training.augment import PAPER_BEST, Augment
from stylex.training.draws import Draws
from stylex.training.execution import check_penalties, compiled
from stylex.training.independence import Independence
from stylex.training.optimisation import adam, learning
from stylex.training.perceptual import PerceptualDistance
from stylex.training.phases import Phases
from stylex.training.schedule import Schedule
from stylex.types import Images, Labels

OPTIMISERS = ("generator", "encoder", "discriminator")


class StylExModule(LightningModule):
    """Trains a StylEx model and keeps its running average, which is what explanations use.

    Attributes:
        model: The model under training.
        average: Its exponential moving average; it shares the frozen classifier.
        discriminator: The judge of both paths.
        step: Steps done.
        path_mean: Running mean of the path lengths.
        independence: Judge of the style coordinates; none if no stage weighs it.
    """

    path_mean: Tensor

    def __init__(
        self,
        model: StylEx,
        discriminator: Discriminator,
        settings: Mapping[str, Any],
        ops: Mapping[str, Any],
        seed: int,
    ) -> None:
        """Prepares training.

        Args:
            model: The model to train.
            discriminator: Its judge.
            settings: The configuration's `training` group, and its `data.batch_size` as
                `batch_size`; see configs/training/stylex.yaml for each key's meaning.
            ops: The configuration's `ops` group: how the networks compute.
            seed: Of latents, noise and hidden probabilities; each step draws from (seed, step).

        Raises:
            InputError: If a setting is unknown, or a part of the batch too small.
        """
        super().__init__()
        self.automatic_optimization = False
        self.model, self.discriminator = model, discriminator
        self.average = StylEx(
            copy.deepcopy(model.encoder),
            copy.deepcopy(model.mapping),
            copy.deepcopy(model.generator),
            model.classifier,
            model.appended,
        ).requires_grad_(False)
        self.distance = PerceptualDistance(settings["perceptual"], model.classifier)
        self.settings, self.ops, self.seed = settings, ops, seed
        self.schedule = Schedule(settings)
        self.step = 0
        self.register_buffer("path_mean", torch.zeros(()))
        sizes = model.generator.layout.sizes
        wanted = self.schedule.ever_weighs("independence")
        self.independence = Independence(sum(sizes)) if wanted else None
        self.adaptation = Adaptation(settings["augment"])
        self.augment = self._build_augment()
        self.compiled: dict[str, Callable[..., Tensor]] = {}
        self.share = Share()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for generator with mapping, encoder, discriminator; corrected for lazy phases."""
        settings, model = self.settings, self.model
        fused = switch(self.ops["fused_adam"], self.device.type == "cuda")
        generator = [*model.generator.parameters(), *model.mapping.parameters()]
        encoder, judge = list(model.encoder.parameters()), list(self.discriminator.parameters())
        return [
            adam(generator, settings, 1.0, settings["path_length_interval"], fused),
            adam(encoder, settings, settings["encoder_rate_factor"], None, fused),
            adam(judge, settings, 1.0, settings["r1_interval"], fused),
        ]

    def on_fit_start(self) -> None:
        """Settles how the networks compute on this device; proves that the penalties work.

        Raises:
            BuildError: If the CUDA ops are wanted and cannot be had.
            InputError: If a penalty does not reach the weights.
        """
        require_ops(self.ops, self.device)
        networks = (self.model.generator, self.model.encoder, self.discriminator)
        for network in networks:
            network.set_precision(precision(self.ops, self.device))
        self.share = share(
            self.settings["batch_size"],
            self.settings["accumulation"],
            self.discriminator.minibatch_group or 1,
        )
        if self.independence is not None:
            self.independence.to(self.device, self.path_mean.dtype)
        check_penalties(self.model, self.discriminator, self.settings, self.device)
        if self.ops["compile"] is not None:
            self.compiled = compiled(self.model, self.discriminator, self.ops["compile"])

    def training_step(self, batch: tuple[Images, Labels], batch_idx: int) -> dict[str, Tensor]:
        """One step; returns every term's value, before its weight."""
        images, _ = batch
        phases = self._phases()
        replaced = torch.zeros((), device=self.device)
        chunks = [
            phases.draws.flipped(x, self.settings["flip_share"])
            for x in images.chunk(self.settings["accumulation"])
        ]
        probabilities = [phases.told(chunk) for chunk in chunks]
        by_encoder = self.schedule.takes_encoder_path(self.step)
        terms: dict[str, Tensor] = {}

        fakes = []
        with self._learning(replaced, "generator", *(("encoder",) if by_encoder else ())):
            for x, p in zip(chunks, probabilities, strict=True):
                fake, told, parts = (phases.encoder_path if by_encoder else phases.noise_path)(x, p)
                self._backward(parts, len(chunks), terms)
                fakes.append((fake.detach(), told))
        if "independence" in terms and self.independence is not None:
            terms["style_judge"] = self.independence.learn(phases.draws.random)
        if not by_encoder and self.step % self.settings["path_length_interval"] == 0:
            with self._learning(replaced, "generator"):
                for p in probabilities:
                    self._backward(phases.path_length(p), len(chunks), terms)

        with self._learning(replaced, "discriminator"):
            for x, p, made in zip(chunks, probabilities, fakes, strict=True):
                real, parts = phases.discrimination(x, p, *made)
                if self.augment is not None:
                    self.adaptation.observe(real)
                self._backward(parts, len(chunks), terms)
        if self.step % self.settings["r1_interval"] == 0:
            with self._learning(replaced, "discriminator"):
                for x, p in zip(chunks, probabilities, strict=True):
                    self._backward(phases.r1(x, p), len(chunks), terms)

        self._update_average(len(images) * self.share.size)
        terms |= self._adapt()
        self.step += 1
        means = self.share.mean(torch.stack(list(terms.values())))
        return {**dict(zip(terms, means, strict=True)), "replaced_gradients": replaced}

    def _phases(self) -> Phases:
        """What the phases of the present step compute with."""
        random = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + self.step)
        return Phases(
            self.model,
            self.discriminator,
            self.distance,
            self.augment,
            self.independence,
            self.path_mean,
            self.compiled,
            self.schedule.at(self.step),
            Draws(random, self.share),
        )

    def _build_augment(self) -> Augment | None:
        """What the discriminator's images go through; none without augmentation."""
        settings, model = self.settings["augment"], self.model
        if settings["mode"] == "none":
            return None
        size = (model.channels, model.resolution_px)
        return Augment(*size, settings["p"], PAPER_BEST, self.ops["impl"])

    def _adapt(self) -> dict[str, Tensor]:
        """Adjusts the augmentation when it is time; its probability and the mean sign before."""
        if self.augment is None:
            return {}
        found = {"augment_p": self.augment.p.clone(), "real_sign": self.adaptation.overfitting()}
        if (self.step + 1) % INTERVAL_STEPS == 0:
            self.adaptation.sums.copy_(self.share.mean(self.adaptation.sums))
            shown = INTERVAL_STEPS * self.settings["batch_size"]
            self.adaptation.adjust(self.augment.p, shown)
        return found

    def _backward(
        self, parts: Mapping[str, tuple[float, Tensor]], num_chunks: int, terms: dict[str, Tensor]
    ) -> None:
        """Backpropagates a chunk's weighted terms and adds their plain values to `terms`."""
        total = torch.stack([factor * value for factor, value in parts.values() if factor]).sum()
        self.manual_backward(total / num_chunks)
        for name, (_, value) in parts.items():
            terms[name] = terms.get(name, 0) + value.detach() / num_chunks

    def _learning(self, replaced: Tensor, *names: str) -> AbstractContextManager[None]:
        """A phase in which the named networks learn."""
        optimisers = dict(zip(OPTIMISERS, self._optimisers(), strict=True))
        factor = self.schedule.learning_rate_factor(self.step)
        return learning(optimisers, names, factor, replaced, self.share)

    def _optimisers(self) -> list[torch.optim.Optimizer]:
        """In the order of OPTIMISERS, without Lightning's wrapping."""
        found = self.optimizers(use_pl_optimizer=False)
        assert isinstance(found, list)
        return found

    def _update_average(self, batch_size: int) -> None:
        seen = (self.step + 1) * batch_size
        half_life = min(
            self.settings["average_half_life_kimg"] * 1000, self.settings["average_ramp"] * seen
        )
        decay = 0.5 ** (batch_size / half_life)
        with torch.no_grad():
            for name in ("encoder", "mapping", "generator"):
                mine, theirs = getattr(self.average, name), getattr(self.model, name)
                torch._foreach_lerp_(list(mine.parameters()), list(theirs.parameters()), 1 - decay)

    def training_state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if it had never stopped."""
        return {
            "step": self.step,
            "networks": {k: v for k, v in self.state_dict().items() if "classifier." not in k},
            "optimisers": [o.state_dict() for o in self._optimisers()],
            **({"independence": self.independence.state_dict()} if self.independence else {}),
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `training_state` gave; the classifier is not part of it."""
        self.step = state["step"]
        own = {k for k in self.state_dict() if "classifier." not in k}
        assert own == set(state["networks"])
        self.load_state_dict(state["networks"], strict=False)
        for optimiser, stored in zip(self._optimisers(), state["optimisers"], strict=True):
            optimiser.load_state_dict(stored)
        if self.independence is not None:
            self.independence.load_state_dict(state["independence"])
