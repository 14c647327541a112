"""The StylEx training recipe.

A step is one batch of real images through all its phases: generator (with encoder), path length
every few steps, discriminator, R1 every few steps, running averages. Even steps take the noise
path, odd ones the encoder path.
Sources: Lang et al. 2021 (arXiv:2104.13369); Karras et al. 2020 (arXiv:1912.04958) for the
    regularisation.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.gan.residual import Discriminator
from stylex.model import StylEx
from stylex.training import losses
from stylex.training.perceptual import PerceptualDistance
from stylex.types import Images, Labels, Probabilities

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
    """

    path_mean: Tensor

    def __init__(
        self, model: StylEx, discriminator: Discriminator, settings: Mapping[str, Any], seed: int
    ) -> None:
        """Prepares training.

        Args:
            model: The model to train.
            discriminator: Its judge.
            settings: The configuration's `training` group; see configs/training/stylex.yaml for
                each key's meaning.
            seed: Of latents, noise and hidden probabilities; each step draws from (seed, step).

        Raises:
            InputError: If `hidden_by` or `perceptual` is unknown, or a part of the batch too small.
        """
        super().__init__()
        if settings["hidden_by"] not in ("others", "uniform"):
            raise InputError(
                f"training.hidden_by must be others or uniform, got '{settings['hidden_by']}'"
            )
        smallest = settings["batch_size"] // settings["accumulation"]
        if settings["hidden_by"] == "others" and smallest < 2:
            raise InputError(
                "training.hidden_by=others needs two images in every part of the batch, got "
                f"batch_size {settings['batch_size']} and accumulation {settings['accumulation']}; "
                "lower training.accumulation"
            )
        _check_stages(settings)
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
        self.settings, self.seed = settings, seed
        self.step = 0
        self.register_buffer("path_mean", torch.zeros(()))

    @property
    def present(self) -> Mapping[str, Any]:
        """Settings of the present step: a stage's replace the earlier ones from its step on."""
        found = dict(self.settings)
        for stage in self.settings["stages"]:
            if self.step >= stage["from_step"]:
                weights = {**found["weights"], **stage.get("weights", {})}
                found = {**found, **stage, "weights": weights}
        return found

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the present step."""
        return self.present["weights"]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for generator with mapping, encoder, discriminator; corrected for lazy phases."""
        generator = [*self.model.generator.parameters(), *self.model.mapping.parameters()]
        settings = self.settings
        return [
            self._adam(generator, 1.0, settings["path_length_interval"]),
            self._adam(self.model.encoder.parameters(), settings["encoder_rate_factor"], None),
            self._adam(self.discriminator.parameters(), 1.0, settings["r1_interval"]),
        ]

    def _adam(
        self,
        parameters: Iterator[nn.Parameter] | list[nn.Parameter],
        factor: float,
        interval: int | None,
    ) -> torch.optim.Optimizer:
        """Adam that makes k + 1 updates where k were meant, if a lazy phase follows every k-th."""
        ratio = 1.0 if interval is None else interval / (interval + 1)
        rate = self.settings["learning_rate"] * factor * ratio
        first, second = (float(beta) ** ratio if beta else 0.0 for beta in self.settings["betas"])
        groups = [{"params": list(parameters), "initial_lr": rate}]
        return torch.optim.Adam(groups, rate, betas=(first, second), eps=1e-8)

    def learning_rate_factor(self) -> float:
        """Factor on all learning rates: 1, then falling in a straight line, then constant."""
        decay = self.present["learning_rate_decay"]
        if decay["from_step"] is None or self.step <= decay["from_step"]:
            return 1.0
        done = (self.step - decay["from_step"]) / (decay["to_step"] - decay["from_step"])
        return 1.0 + min(1.0, done) * (decay["to_factor"] - 1.0)

    def takes_encoder_path(self, step: int) -> bool:
        """Whether a step takes the encoder path: odd ones do; all do without a noise path."""
        return step % 2 == 1 or not self.settings["noise_path"]

    def training_step(self, batch: tuple[Images, Labels], batch_idx: int) -> dict[str, Tensor]:
        """One step; returns every term's value, before its weight."""
        images, _ = batch
        random = torch.Generator(self.device).manual_seed(self.seed * 1_000_003 + self.step)
        chunks = images.chunk(self.settings["accumulation"])
        probabilities = [self.model.classifier.probabilities(chunk) for chunk in chunks]
        by_encoder = self.takes_encoder_path(self.step)
        terms: dict[str, Tensor] = {}

        fakes = []
        with self._phase("generator", *(("encoder",) if by_encoder else ())):
            for x, p in zip(chunks, probabilities, strict=True):
                make = self._encoder_terms if by_encoder else self._noise_terms
                fake, parts = make(x, p, random)
                self._backward(parts, len(chunks), terms)
                fakes.append(fake.detach())
        if not by_encoder and self.step % self.settings["path_length_interval"] == 0:
            with self._phase("generator"):
                for p in probabilities:
                    self._backward(self._path_length(p, random), len(chunks), terms)

        with self._phase("discriminator"):
            for x, p, fake in zip(chunks, probabilities, fakes, strict=True):
                real, false = self.discriminator(x, p), self.discriminator(fake, p)
                loss = losses.discriminator_adversarial(real, false)
                score = real.detach().sigmoid().mean()
                self._backward(
                    {"discriminator": (1.0, loss), "real_score": (0.0, score)}, len(chunks), terms
                )
        if self.step % self.settings["r1_interval"] == 0:
            with self._phase("discriminator"):
                for x, p in zip(chunks, probabilities, strict=True):
                    x = x.detach().requires_grad_()
                    penalty = losses.r1_penalty(self.discriminator(x, p), x)
                    factor = self.weights["r1_gamma"] * self.settings["r1_interval"]
                    self._backward({"r1": (factor, penalty)}, len(chunks), terms)

        self._update_average(len(images))
        self.step += 1
        return terms

    def _noise_terms(
        self, images: Images, probabilities: Probabilities, random: torch.Generator
    ) -> tuple[Images, dict[str, tuple[float, Tensor]]]:
        """Adversarial loss alone: random latents with the real images' probabilities."""
        generator = self.model.generator
        latents = self._sample(probabilities, random)
        fake = generator(latents, generator.noise_maps(len(latents), random))
        judged = self.discriminator(fake, probabilities)
        return fake, {
            "adversarial": (self.weights["adversarial"], losses.generator_adversarial(judged))
        }

    def _encoder_terms(
        self, images: Images, probabilities: Probabilities, random: torch.Generator
    ) -> tuple[Images, dict[str, tuple[float, Tensor]]]:
        """Adversarial, reconstruction and classifier losses on reconstructions."""
        model, weights = self.model, self.weights
        with torch.no_grad():
            logits, features = model.classifier.features(images)
        code = model.encoder(images)
        shown = self._partly_hidden(probabilities, random)
        styles = model.generator.styles(torch.cat((code, shown), dim=1))
        fake = model.generator.synthesis(
            styles, noise=model.generator.noise_maps(len(styles), random)
        )
        fake_logits, fake_features = model.classifier.features(fake)
        judged = self.discriminator(fake, probabilities)
        distance = self.distance(images, fake, features, fake_features)
        agreement = (logits.argmax(dim=1) == fake_logits.argmax(dim=1)).float().mean()
        return fake, {
            "adversarial_encoder": (weights["adversarial"], losses.generator_adversarial(judged)),
            "image_l1": (weights["image_l1"], (images - fake).abs().mean()),
            "perceptual": (weights["perceptual"], distance),
            "latent_l1": (weights["latent_l1"], (code - model.encoder(fake)).abs().mean()),
            "classifier_kl": (
                weights["classifier_kl"],
                losses.classifier_divergence(logits, fake_logits),
            ),
            "style_deviation": (
                weights["style_deviation"],
                losses.style_deviation(styles, model.generator.layout.sizes),
            ),
            "agreement": (0.0, agreement),
        }

    def _partly_hidden(
        self, probabilities: Probabilities, random: torch.Generator
    ) -> Probabilities:
        """Hides the appended probabilities of some images behind equal or another image's."""
        hide = torch.rand(len(probabilities), 1, generator=random, device=self.device)
        others = self.settings["hidden_by"] == "others"
        instead = probabilities.roll(1, dims=0) if others else self.model.hidden(probabilities)
        return torch.where(hide < self.present["hidden_share"], instead, probabilities)

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

    @contextmanager
    def _phase(self, *names: str) -> Iterator[None]:
        """Lets only the named networks learn, and takes their optimisers' step at the end."""
        optimisers = dict(zip(OPTIMISERS, self._optimisers(), strict=True))
        for name, optimiser in optimisers.items():
            for group in optimiser.param_groups:
                for parameter in group["params"]:
                    parameter.requires_grad_(name in names)
                    parameter.grad = None
        yield
        factor = self.learning_rate_factor()
        for name in names:
            for group in optimisers[name].param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimisers[name].step()

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
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `training_state` gave; the classifier is not part of it."""
        self.step = state["step"]
        own = {k for k in self.state_dict() if "classifier." not in k}
        assert own == set(state["networks"])
        self.load_state_dict(state["networks"], strict=False)
        for optimiser, stored in zip(self._optimisers(), state["optimisers"], strict=True):
            optimiser.load_state_dict(stored)


def _check_stages(settings: Mapping[str, Any]) -> None:
    """Refuses a stage that changes what is built once, or that is misspelt."""
    changeable = ("from_step", "weights", "hidden_share", "learning_rate_decay")
    for stage in settings["stages"]:
        unknown = [key for key in stage if key not in changeable]
        unknown += [key for key in stage.get("weights", {}) if key not in settings["weights"]]
        if unknown or "from_step" not in stage:
            raise InputError(
                f"a stage of training.stages has from_step and any of {', '.join(changeable[1:])}, "
                f"got {', '.join(unknown) or 'no from_step'}"
            )
