"""Libraries that only some methods need, loaded when such a method runs."""

from importlib import import_module
from types import ModuleType

from stylex.errors import InputError


def load_extra(module: str, package: str) -> ModuleType:
    """An optional library's module.

    Args:
        module: As it is imported, such as captum.attr.
        package: As it is installed.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"this method needs the package {package}, got none; pip install 'stylex[attribution]'"
        ) from error
