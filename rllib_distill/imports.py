"""Importing what a config names in the user's own code: `my_package.my_module:name`."""

from importlib import import_module
from typing import Any

from rllib_distill.errors import DistillError, nearest


def import_object(path: str, what: str, *, is_class: bool = False) -> Any:
    """Imports an object of a module that is on PYTHONPATH or, for the program `rllib`, in the current folder.

    Args:
        path: Such as "my_package.my_module:MyAlgorithm".
        what: The key that names it, for messages.
        is_class: Whether it must be a class.

    Raises:
        DistillError: There is no such module, it fails while it is imported, it has no such name, or that is
            no class.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name.isidentifier():
        raise DistillError(
            f"{what} is {path!r}; it must be a module and a name of it, e.g. my_package:MyClass."
        )
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise DistillError(f"{what} is {path!r}, which cannot be imported: {_said(error)}.") from error
        raise DistillError(
            f"{what} is {path!r}, but there is no module {error.name!r} in the current folder, on PYTHONPATH "
            "or installed: correct the name, or add its folder to PYTHONPATH."
        ) from None
    except Exception as error:  # whatever the user's module does
        raise DistillError(f"{what} is {path!r}, which cannot be imported: {_said(error)}.") from error
    if not hasattr(module, name):
        names = [known for known in vars(module) if not known.startswith("_")]
        raise DistillError(
            f"{what} is {path!r}, but {module_name} has no {name!r}. {nearest(name, names, list_known=False)}"
        )
    found = getattr(module, name)
    if is_class and not isinstance(found, type):
        raise DistillError(
            f"{what} is {path!r}, which is {found!r} ({type(found).__name__}); it must be a class."
        )
    return found


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
