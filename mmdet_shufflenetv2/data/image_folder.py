"""Which image files a folder holds, asked many thousand times."""

import os
import re
from pathlib import Path

# Absolute on some system, a '..' on the way, or a byte no path may hold.
_ESCAPE = re.compile(r'^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\0')


class ImageFolder:
    """Answers from one listing per folder instead of one stat per image.

    Args:
        root: The folder that names are relative to.
    """

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(root)
        self._listings: dict[str, frozenset[str]] = {}

    def _listing(self, folder: str) -> frozenset[str]:
        if folder not in self._listings:
            path = self.root / folder
            names = os.listdir(path) if path.is_dir() else ()
            self._listings[folder] = frozenset(names)
        return self._listings[folder]

    def has(self, name: str) -> bool:
        """Whether ``name``, which may hold sub-folders, is in the folder."""
        folder, _, base = name.rpartition('/')
        return base in self._listing(folder)

    def hint(self, name: str) -> str:
        """A word on a file that is nearly named so, or ''."""
        folder, _, base = name.rpartition('/')
        for found in self._listing(folder):
            if found.lower() == base.lower():
                return f'; there is {found}, in other letters'
            if os.path.splitext(found)[0] == os.path.splitext(base)[0]:
                return f'; there is {found}'
        if folder and self.has(base):
            return f'; it is there without {folder}/'
        return ''


def escapes(name: str) -> bool:
    """Whether a file name out of a file would leave the image folder."""
    return _ESCAPE.search(name) is not None
