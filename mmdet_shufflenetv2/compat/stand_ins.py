"""Modules that answer only where the real ones are absent.

The finder stands last on ``sys.meta_path``. Python asks it only after every
other finder has said no, so an installed module always wins, and nothing is
imported before somebody asks for it.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Filler = Callable[[ModuleType], None]


class StandInFinder(MetaPathFinder, Loader):
    """Finds and loads stand-in modules by name.

    Args:
        fillers: For each full module name, what puts the content into the
            empty module. Called again by ``importlib.reload``.
    """

    def __init__(self, fillers: dict[str, Filler]) -> None:
        self.fillers = fillers

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self.fillers:
            return None
        return ModuleSpec(
            fullname, self, origin=f'stand-in of {__package__} for {fullname}'
        )

    def exec_module(self, module: ModuleType) -> None:
        self.fillers[module.__name__](module)


def offer_stand_ins(fillers: dict[str, Filler]) -> StandInFinder:
    """Put one finder for ``fillers`` last on the import path, once."""
    for finder in sys.meta_path:
        if isinstance(finder, StandInFinder):
            finder.fillers.update(fillers)
            return finder
    finder = StandInFinder(dict(fillers))
    sys.meta_path.append(finder)
    return finder


class ChangedModule(ModuleType):
    """A module with some names replaced, as one other module sees it.

    Args:
        module: The one that answers for all other names.
        changes: The names replaced.
    """

    def __init__(self, module: ModuleType, **changes: Any) -> None:
        super().__init__(module.__name__)
        vars(self).update(_module=module, **changes)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)['_module'], name)
