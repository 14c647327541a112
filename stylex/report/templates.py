"""The page's templates and assets; whatever a template is given is escaped."""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def environment() -> Environment:
    """Renders the templates of assets/; a name that is not given is an error."""
    return Environment(
        loader=PackageLoader("stylex.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(name: str) -> Markup:
    """A style or script of assets/, as it stands."""
    return Markup(files("stylex.report").joinpath("assets", name).read_text("utf-8"))
