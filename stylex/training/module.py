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
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor

from stylex.gan.compute import precision, require_ops, switch
from stylex.gan.residual import Discriminator
from stylex.model import StylEx
from stylex.training import losses
from stylex.training.crossing import Crossing, Terms
from stylex.training.execution import check_penalties, compiled
from stylex.training.independence import Independence
from stylex.training.optimisation import adam, learning
from stylex.training.perceptual import PerceptualDistance
from stylex.training.schedule import Schedule
from stylex.types import Images, Labels, Probabilities, Styles

LayerLatents = Float[Tensor, "b l d"]
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
            settings: The configuration's `training` group; see configs/training/stylex.yaml for
                each key's meaning.
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
        self.compiled: dict[str, Callable[..., Tensor]] = {}

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the present step."""
        return self.schedule.at(self.step)["weights"]

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
        if self.independence is not None:
            self.independence.to(self.device)
        check_penalties(self.model, self.discriminator, self.settings, self.device)
        if self.ops["compile"] is not None:
            self.compiled = compiled(self.model, self.discriminator, self.ops["compile"])

    def _main(self, name: str, plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A network as the first-order phases run it; penalties always run the plain one."""
        return self.compiled.get(name, plain)

    def training_step(self, batch: tuple[Images, Labels], batch_idx: int) -> dict[str, Tensor]:
        """One step; returns every term's value, before its weight."""
        images, _ = batch
        random = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + self.step)
        replaced = torch.zeros((), device=self.device)
        chunks = images.chunk(self.settings["accumulation"])
        probabilities = [self._told(chunk) for chunk in chunks]
        by_encoder = self.schedule.takes_encoder_path(self.step)
        terms: dict[str, Tensor] = {}

        fakes = []
        with self._learning(replaced, "generator", *(("encoder",) if by_encoder else ())):
            for x, p in zip(chunks, probabilities, strict=True):
                make = self._encoder_terms if by_encoder else self._noise_terms
                fake, told, parts = make(x, p, random)
                self._backward(parts, len(chunks), terms)
                fakes.append((fake.detach(), told))
        if "independence" in terms and self.independence is not None:
            terms["style_judge"] = self.independence.learn(random)
        if not by_encoder and self.step % self.settings["path_length_interval"] == 0:
            with self._learning(replaced, "generator"):
                for p in probabilities:
                    self._backward(self._path_length(p, random), len(chunks), terms)

        with self._learning(replaced, "discriminator"):
            for x, p, (fake, told) in zip(chunks, probabilities, fakes, strict=True):
                judge = self._main("discriminator", self.discriminator)
                real, false = judge(x, p), judge(fake, told)
                loss = losses.discriminator_adversarial(real, false)
                score = real.detach().sigmoid().mean()
                self._backward(
                    {"discriminator": (1.0, loss), "real_score": (0.0, score)}, len(chunks), terms
                )
        if self.step % self.settings["r1_interval"] == 0:
            with self._learning(replaced, "discriminator"):
                for x, p in zip(chunks, probabilities, strict=True):
                    x = x.detach().requires_grad_()
                    penalty = losses.r1_penalty(self.discriminator(x, p), x)
                    factor = self.weights["r1_gamma"] * self.settings["r1_interval"]
                    self._backward({"r1": (factor, penalty)}, len(chunks), terms)

        self._update_average(len(images))
        self.step += 1
        return {**terms, "replaced_gradients": replaced}

    def _noise_terms(
        self, images: Images, probabilities: Probabilities, random: torch.Generator
    ) -> tuple[Images, Probabilities, Terms]:
        """Adversarial loss alone: random latents with the real images' probabilities."""
        generator = self.model.generator
        latents = self._sample(probabilities, random)
        maps = generator.noise_maps(len(latents), random)
        fake = self._main("synthesis", generator.synthesis)(generator.styles(latents), noise=maps)
        judged = self._main("discriminator", self.discriminator)(fake, probabilities)
        return (
            fake,
            probabilities,
            {"adversarial": (self.weights["adversarial"], losses.generator_adversarial(judged))},
        )

    def _encoder_terms(
        self, images: Images, probabilities: Probabilities, random: torch.Generator
    ) -> tuple[Images, Probabilities, Terms]:
        """Adversarial, reconstruction and classifier losses on reconstructions."""
        model, weights = self.model, self.weights
        with torch.no_grad():
            logits, features = model.classifier.features(images)
        encode = self._main("encoder", model.encoder)
        code = encode(images)
        shown = self._partly_hidden(probabilities, random)
        styles = model.generator.styles(torch.cat((code, shown), dim=1))
        maps = model.generator.noise_maps(len(styles), random)
        synthesis = partial(self._main("synthesis", model.generator.synthesis), noise=maps)
        fake = synthesis(styles)
        fake_logits, fake_features = model.classifier.features(fake)
        judge = self._main("discriminator", self.discriminator)
        judged = judge(fake, probabilities)
        distance = self.distance(images, fake, features, fake_features)
        agreement = (logits.argmax(dim=1) == fake_logits.argmax(dim=1)).float().mean()
        made, told = fake, probabilities
        terms: Terms = {}
        if weights["crossed"] or weights["style_cycle"]:
            crossing = Crossing(
                synthesis,
                lambda x: model.generator.styles(torch.cat((encode(x), shown), dim=1)),
                self._told,
                judge,
                model.generator.layout.sizes,
                weights,
            )
            images_crossed, told_crossed, terms = crossing.terms(styles, random)
            half = len(fake) // 2  # the discriminator learns from as many images as before
            made = torch.cat((fake[:half], images_crossed[half:]))
            told = torch.cat((probabilities[:half], told_crossed[half:]))
        return (
            made,
            told,
            {
                **terms,
                "adversarial_encoder": (
                    weights["adversarial"],
                    losses.generator_adversarial(judged),
                ),
                "image_l1": (weights["image_l1"], (images - fake).abs().mean()),
                "perceptual": (weights["perceptual"], distance),
                "latent_l1": (weights["latent_l1"], (code - encode(fake)).abs().mean()),
                "classifier_kl": (
                    weights["classifier_kl"],
                    losses.classifier_divergence(logits, fake_logits),
                ),
                "style_deviation": (
                    weights["style_deviation"],
                    losses.style_deviation(styles, model.generator.layout.sizes),
                ),
                "agreement": (0.0, agreement),
                **self._dependence(styles, random),
            },
        )

    def _dependence(self, styles: Styles, random: torch.Generator) -> Terms:
        """How far the style coordinates depend on each other, once a stage asks for it."""
        weight = self.weights["independence"]
        if not weight or self.independence is None:
            return {}
        return {"independence": (weight, self.independence.dependence(styles, random))}

    def _told(self, images: Images) -> Probabilities:
        """What generator and discriminator are told of images: nothing if nothing is appended."""
        probabilities = self.model.classifier.probabilities(images)
        return self.model.hidden(probabilities) if self.model.appended == "none" else probabilities

    def _partly_hidden(
        self, probabilities: Probabilities, random: torch.Generator
    ) -> Probabilities:
        """Hides the appended probabilities of some images behind equal or another image's."""
        hide = torch.rand(len(probabilities), 1, generator=random, device=self.device)
        others = self.settings["hidden_by"] == "others"
        instead = probabilities.roll(1, dims=0) if others else self.model.hidden(probabilities)
        return torch.where(
            hide < self.schedule.at(self.step)["hidden_share"], instead, probabilities
        )

    def _path_length(
        self, probabilities: Probabilities, random: torch.Generator
    ) -> dict[str, tuple[float, Tensor]]:
        """Path length penalty on a smaller batch of the noise path, weighted for its interval."""
        shrunk = max(1, len(probabilities) // self.settings["path_length_shrink"])
        latents = self._sample(probabilities[:shrunk], random)
        generator = self.model.generator
        images = generator(latents, generator.noise_maps(len(latents), random))
        noise = torch.randn(images.shape, generator=random, device=self.device)
        lengths = losses.path_lengths(images, latents, noise)
        mean = self.path_mean.lerp(lengths.detach().mean(), self.settings["path_length_decay"])
        self.path_mean.copy_(mean)
        factor = self.weights["path_length"] * self.settings["path_length_interval"]
        return {"path_length": (factor, losses.path_length_penalty(lengths, mean))}

    def _sample(self, probabilities: Probabilities, random: torch.Generator) -> LayerLatents:
        """Random latents, one per layer; some change at a random layer (style mixing)."""
        count, layers = len(probabilities), self.model.generator.num_latents
        shape = (2 * count, self.model.mapping.latent_dim)
        first, second = self.model.mapping(
            torch.randn(shape, generator=random, device=self.device)
        ).split(count)
        cutoff = torch.randint(1, layers, (count, 1), generator=random, device=self.device)
        mixed = (
            torch.rand(count, 1, generator=random, device=self.device)
            < self.settings["style_mixing"]
        )
        from_second = mixed & (torch.arange(layers, device=self.device) >= cutoff)  # [b l]
        chosen = torch.where(from_second[:, :, None], second[:, None], first[:, None])
        return torch.cat((chosen, probabilities[:, None].expand(-1, layers, -1)), dim=2)

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
        return learning(optimisers, names, self.schedule.learning_rate_factor(self.step), replaced)

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
