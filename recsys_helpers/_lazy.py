"""Names that are imported when they are first asked for, so that importing the package stays quick."""

from importlib import import_module


def lazily(package, namespace, home, modules):
    """The ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names live in its submodules.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    namespace : dict
        Its ``globals()``, where a name is kept once it has been found.
    home : dict of str to str
        The submodule, relative to the package, that each public name lives in.
    modules : dict of str to str
        The same for modules that are public themselves.
    """

    def __getattr__(name):
        if name in home:
            value = getattr(import_module(f".{home[name]}", package), name)
        elif name in modules:
            value = import_module(f".{modules[name]}", package)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        namespace[name] = value
        return value

    names = sorted([*home, *modules])
    return __getattr__, lambda: sorted({*namespace, *names}), names
