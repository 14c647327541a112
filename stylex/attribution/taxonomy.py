"""Where each method of the wing, and StylEx beside it, stands in the usual taxonomy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A method's place.

    Attributes:
        title: Its name in the literature.
        family: The question that it answers.
        scope: `local` explains one image, `global` the classifier.
        access: `white-box` looks into the network, `black-box` asks it only for outputs.
        moment: `post-hoc` explains a finished classifier, `intrinsic` is part of its training.
        reach: `model-agnostic`, or `model-specific` and to what.
        reading: How to read it, in a sentence.
        is_signed: Whether its maps speak for and against, so that 0 is the middle.
    """

    title: str
    family: str
    scope: str
    access: str
    moment: str
    reach: str
    reading: str
    is_signed: bool = False

    @property
    def line(self) -> str:
        """The place on one line."""
        return f"{self.scope}, {self.access}, {self.moment}, {self.reach}"


LAYER = "What a layer sees"
CLASS = "What a class is"
PIXELS = "Which pixels matter"
SHAPE = "From saliency to shape"
FOOLED = "How it is fooled"
STYLE = "Style and content"
ALIKE = "What is alike"
TRUST = "How far to trust the maps"
GRADIENTS = "model-specific: differentiable networks"
CONVOLUTIONS = "model-specific: convolutional networks"
RECTIFIERS = "model-specific: networks with rectifiers"
INSIDE = ("white-box", "post-hoc")

METHODS = {
    "activations": Place(
        "Activation maps", LAYER, "local", *INSIDE, CONVOLUTIONS,
        "Bright where a filter answers the image.",
    ),
    "patches": Place(
        "Maximally activating patches", LAYER, "global", *INSIDE, CONVOLUTIONS,
        "What excites a filter most in the data, cut at exactly what it can see.",
    ),
    "ascent": Place(
        "Activation maximisation", LAYER, "global", *INSIDE, GRADIENTS,
        "An image made from noise that excites a filter: a caricature, no photograph.",
    ),
    "class_model": Place(
        "Class model visualisation", CLASS, "global", *INSIDE, GRADIENTS,
        "An image made from noise that raises one class's logit.",
    ),
    "deepdream": Place(
        "DeepDream", LAYER, "local", *INSIDE, GRADIENTS,
        "What the network sees in an image, drawn into it at several scales.",
    ),
    "saliency": Place(
        "Saliency", PIXELS, "local", *INSIDE, GRADIENTS,
        "Bright where a small change of a pixel changes the class's logit most.",
    ),
    "saliency_signed": Place(
        "Signed saliency", PIXELS, "local", *INSIDE, GRADIENTS,
        "Red where a brighter pixel speaks for the class, blue where it speaks against it.", True,
    ),
    "smoothgrad": Place(
        "SmoothGrad", PIXELS, "local", *INSIDE, GRADIENTS,
        "Saliency averaged over noisy copies of the image.",
    ),
    "guided_backprop": Place(
        "Guided backpropagation", PIXELS, "local", *INSIDE, RECTIFIERS,
        "Crisp, but much of it does not depend on the class; see the randomisation check.",
    ),
    "guided_neuron": Place(
        "Guided backpropagation of a neuron", PIXELS, "local", *INSIDE, RECTIFIERS,
        "What excites one neuron of a layer in this image.",
    ),
    "occlusion": Place(
        "Occlusion", PIXELS, "local", "black-box", "post-hoc", "model-agnostic",
        "Red where hiding a patch lowers the class's probability, blue where it raises it.", True,
    ),
    "gradcam": Place(
        "Grad-CAM", PIXELS, "local", *INSIDE, CONVOLUTIONS,
        "Coarse: one value per place of the layer, enlarged.",
    ),
    "segmentation": Place(
        "GrabCut from a map", SHAPE, "local", *INSIDE, "as the map that seeds it",
        "The object's outline, grown from the map's highest and lowest values.",
    ),
    "fgsm": Place(
        "Fast gradient sign", FOOLED, "local", *INSIDE, GRADIENTS,
        "One step of the budget against the decision; the difference is amplified.",
    ),
    "pgd": Place(
        "Projected gradient descent", FOOLED, "local", *INSIDE, GRADIENTS,
        "Many small steps within the budget against the decision.",
    ),
    "pgd_targeted": Place(
        "Targeted projected gradient descent", FOOLED, "local", *INSIDE, GRADIENTS,
        "Many small steps within the budget towards a class that was chosen.",
    ),
    "style_transfer": Place(
        "Style transfer", STYLE, "local", *INSIDE, CONVOLUTIONS,
        "The image's content in another's textures; explains features, no decision.",
    ),
    "embeddings": Place(
        "Nearest neighbours", ALIKE, "local", *INSIDE, "model-specific: a last linear layer",
        "The images that lie next to this one in feature space, nearest first.",
    ),
    "faithfulness": Place(
        "Faithfulness", TRUST, "local", *INSIDE, "as the maps that it checks",
        "Whether the pixels that a map calls important are those that the decision needs.",
    ),
}  # fmt: skip
STYLEX = Place(
    "StylEx", "What about the pixels matters", "local and global", *INSIDE, GRADIENTS,
    "Single attributes that change, each with its effect on the decision.",
)  # fmt: skip


def place_of(method: str) -> Place:
    """The place of a method; one that a user added states none."""
    unknown = Place(method, "Your own", "not stated", "not stated", "not stated", "not stated", "")
    return METHODS.get(method, unknown)
