"""A stand-in for ``pkg_resources``, which setuptools 82 no longer has.

mmengine asks it whether and where a package is installed, for every
``_base_ = 'mmdet::...'``. The standard library knows the same.
"""

from importlib import metadata
from types import ModuleType

NAME = 'pkg_resources'


class DistributionNotFound(Exception):
    """The package is not installed."""


class Distribution:
    """What mmengine asks of an installed package.

    Args:
        name: Name of the distribution, as given to ``pip install``.
    """

    def __init__(self, name: str) -> None:
        try:
            self._metadata = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            raise DistributionNotFound(
                f'the distribution {name!r} is not installed'
            ) from error

    @property
    def version(self) -> str:
        return self._metadata.version

    @property
    def location(self) -> str:
        """The folder that the package was installed into."""
        return str(self._metadata.locate_file(''))

    def has_metadata(self, name: str) -> bool:
        return self._metadata.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        text = self._metadata.read_text(name)
        if text is None:
            raise KeyError(f'{self._metadata.name} has no metadata {name!r}')
        return text


def _answer(name: str) -> None:
    raise AttributeError(
        f'{NAME} is not installed (setuptools 82 dropped it) and its '
        f'stand-in has no {name!r}; pip install "setuptools<81" brings the '
        'whole module back'
    )


def fill(module: ModuleType) -> None:
    """Make ``module`` the stand-in."""
    vars(module).update(
        DistributionNotFound=DistributionNotFound,
        get_distribution=Distribution,
        __getattr__=_answer,
    )
