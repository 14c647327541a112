"""The losses of every phase of a StylEx step: noise path, encoder path, path length, judge, R1.

Sources: Lang et al. 2021 (arXiv:2104.13369); Karras et al. 2020 (arXiv:1912.04958) for the
    regularisation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stylex.gan.residual import Discriminator
from stylex.model import StylEx
from stylex.training import losses
from stylex.training.augment import Augment
from stylex.training.crossing import Crossing, Terms
from stylex.training.draws import Draws
from stylex.training.independence import Independence
from stylex.training.perceptual import PerceptualDistance
from stylex.types import Images, Probabilities, Styles

Made = tuple[Images, Probabilities, Terms]  # images, what the judge is told of them, losses


@dataclass(frozen=True)
class Phases:
    """What the phases of one step compute with.

    Attributes:
        model: The model under training.
        discriminator: The judge.
        distance: Perceptual distance.
        augment: What the judge's images go through; none without augmentation.
        independence: Judge of the style coordinates; none if no stage weighs it.
        path_mean: Running mean of the path lengths, changed in place.
        compiled: Compiled forms of networks, by name; penalties always run the plain ones.
        settings: The configuration's `training` group as it is at this step.
        draws: The step's random numbers.
    """

    model: StylEx
    discriminator: Discriminator
    distance: PerceptualDistance
    augment: Augment | None
    independence: Independence | None
    path_mean: Tensor
    compiled: Mapping[str, Callable[..., Tensor]]
    settings: Mapping[str, Any]
    draws: Draws

    @property
    def weights(self) -> Mapping[str, float]:
        """Of the losses."""
        return self.settings["weights"]

    def told(self, images: Images) -> Probabilities:
        """What generator and discriminator are told of images: nothing if nothing is appended."""
        probabilities = self.model.classifier.probabilities(images)
        return self.model.hidden(probabilities) if self.model.appended == "none" else probabilities

    def noise_path(self, images: Images, probabilities: Probabilities) -> Made:
        """Adversarial loss alone: random latents with the real images' probabilities."""
        generator = self.model.generator
        latents = self._latents(probabilities)
        maps = self.draws.noise_maps(generator, len(latents))
        fake = self._main("synthesis", generator.synthesis)(generator.styles(latents), noise=maps)
        loss = losses.generator_adversarial(self.judge(fake, probabilities))
        return fake, probabilities, {"adversarial": (self.weights["adversarial"], loss)}

    def encoder_path(self, images: Images, probabilities: Probabilities) -> Made:
        """Adversarial, reconstruction and classifier losses on reconstructions."""
        model, weights, share = self.model, self.weights, self.draws.share
        with torch.no_grad():
            logits, features = model.classifier.features(images)
        encode = self._main("encoder", model.encoder)
        code = encode(images)
        shown = self._partly_hidden(probabilities)
        styles = model.generator.styles(torch.cat((code, shown), dim=1))
        maps = self.draws.noise_maps(model.generator, len(styles))
        whole = share.gather(styles)
        synthesis = partial(self._main("synthesis", model.generator.synthesis), noise=maps)
        fake = synthesis(styles)
        fake_logits, fake_features = model.classifier.features(fake)
        judged = self.judge(fake, probabilities)
        distance = self.distance(images, fake, features, fake_features)
        agreement = (logits.argmax(dim=1) == fake_logits.argmax(dim=1)).float().mean()
        made, told = fake, probabilities
        terms: Terms = {}
        if weights["crossed"] or weights["style_cycle"]:
            crossing = Crossing(
                synthesis,
                lambda x: model.generator.styles(torch.cat((encode(x), shown), dim=1)),
                self.told,
                self.judge,
                model.generator.layout.sizes,
                weights,
                share,
            )
            images_crossed, told_crossed, terms = crossing.terms(whole, self.draws.random)
            half = len(fake) // 2  # the discriminator learns from as many images as before
            made = torch.cat((fake[:half], images_crossed[half:]))
            told = torch.cat((probabilities[:half], told_crossed[half:]))
        values = {
            "adversarial_encoder": losses.generator_adversarial(judged),
            "image_l1": (images - fake).abs().mean(),
            "perceptual": distance,
            "latent_l1": (code - encode(fake)).abs().mean(),
            "classifier_kl": losses.classifier_divergence(logits, fake_logits),
            "style_deviation": losses.style_deviation(whole, model.generator.layout.sizes),
        }
        weighed = {**weights, "adversarial_encoder": weights["adversarial"]}
        terms |= {name: (weighed[name], value) for name, value in values.items()}
        return (
            made,
            told,
            {**terms, **self._dependence(styles, whole), "agreement": (0.0, agreement)},
        )

    def path_length(self, probabilities: Probabilities) -> Terms:
        """Path length penalty on a smaller batch of the noise path, weighted for its interval."""
        shrunk = max(1, len(probabilities) // self.settings["path_length_shrink"])
        latents = self._latents(probabilities[:shrunk])
        generator = self.model.generator
        images = generator(latents, self.draws.noise_maps(generator, len(latents)))
        noise = self.draws.normal(*images.shape)
        lengths = losses.path_lengths(images, latents, noise)
        found = self.draws.share.mean(lengths.detach().mean())
        mean = self.path_mean.lerp(found, self.settings["path_length_decay"])
        self.path_mean.copy_(mean)
        factor = self.weights["path_length"] * self.settings["path_length_interval"]
        penalty = losses.path_length_penalty(lengths, mean)
        return {"path_length": (factor, penalty), "path_mean": (0.0, mean)}

    def discrimination(
        self, images: Images, probabilities: Probabilities, fake: Images, told: Probabilities
    ) -> tuple[Tensor, Terms]:
        """The discriminator's outputs for real images, and its loss on real and fake ones."""
        real = self.judge(images, probabilities)
        loss = losses.discriminator_adversarial(real, self.judge(fake, told))
        score = real.detach().sigmoid().mean()
        return real.detach(), {"discriminator": (1.0, loss), "real_score": (0.0, score)}

    def r1(self, images: Images, probabilities: Probabilities) -> Terms:
        """R1 through the augmentation, weighted for its interval."""
        images = images.detach().requires_grad_()
        judged = self.discriminator(self.draws.augmented(images, self.augment), probabilities)
        factor = self.weights["r1_gamma"] * self.settings["r1_interval"]
        return {"r1": (factor, losses.r1_penalty(judged, images))}

    def judge(self, images: Images, told: Probabilities) -> Tensor:
        """The discriminator's outputs for augmented images."""
        seen = self.draws.augmented(images, self.augment)
        return self._main("discriminator", self.discriminator)(seen, told)

    def _main(self, name: str, plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A network as the first-order phases run it."""
        return self.compiled.get(name, plain)

    def _latents(self, probabilities: Probabilities) -> Tensor:
        """Random latents with these probabilities [b l d]; some change at a random layer."""
        model, mixing = self.model, self.settings["style_mixing"]
        return self.draws.latents(model.mapping, probabilities, model.generator.num_latents, mixing)

    def _partly_hidden(self, probabilities: Probabilities) -> Probabilities:
        """Hides the appended probabilities of some images behind equal or another image's."""
        hide = self.draws.uniform(len(probabilities), 1)
        if self.settings["hidden_by"] == "others":
            share = self.draws.share
            instead = share.own(share.gather(probabilities).roll(1, dims=0))
        else:
            instead = self.model.hidden(probabilities)
        return torch.where(hide < self.settings["hidden_share"], instead, probabilities)

    def _dependence(self, styles: Styles, whole: Styles) -> Terms:
        """How far the style coordinates depend on each other, once a stage asks for it."""
        weight = self.weights["independence"]
        if not weight or self.independence is None:
            return {}
        self.independence.remember(whole)
        dependence = self.independence.dependence(styles, self.draws.normal)
        return {"independence": (weight, dependence)}
