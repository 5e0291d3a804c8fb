"""MaveDB's own models, which refer to each other by name: all must be imported."""

import pkgutil
from importlib import import_module

import mavedb.models


def import_models() -> None:
    for module in pkgutil.iter_modules(mavedb.models.__path__, "mavedb.models."):
        if not module.ispkg:
            import_module(module.name)
