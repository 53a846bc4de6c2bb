"""A folder of generated files that is whole or not there.

Its manifest holds what the files were made from and the SHA-256 of each.
"""

import hashlib
import json
import os
import shutil
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

MANIFEST = 'manifest.json'


@contextmanager
def told_by(parser: ArgumentParser) -> Iterator[None]:
    """End a command that draws in one line, if it cannot go on."""
    try:
        yield
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, '\nstopped; nothing is left behind\n')


def is_complete(out_dir: str | os.PathLike, description: dict) -> bool:
    """Whether the folder holds this data set, by the sum of every file.

    Args:
        out_dir: The folder.
        description: What its files depend on, as JSON has it.
    """
    folder = Path(out_dir)
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest['spec'] != _through_json(description):
            return False
        return all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
            for name, sha256 in manifest['sha256'].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_folder(
    out_dir: str | os.PathLike,
    description: dict,
    files: Iterable[tuple[str, bytes]],
    total: int,
    progress: bool = False,
) -> bool:
    """Write the files unless the folder already holds them.

    They are written beside ``out_dir`` and renamed when finished, so a
    folder of that name is always whole.

    Args:
        out_dir: The folder.
        description: What the files depend on; nothing is written where the
            folder's manifest has the same and every file is as it was.
        files: Names relative to the folder, and contents; drawn only when
            needed.
        total: How many files there are.
        progress: Show a bar.

    Returns:
        Whether anything was written.

    Raises:
        ValueError: ``out_dir`` holds files that this function did not make.
    """
    folder = Path(os.path.abspath(out_dir))
    if is_complete(folder, description):
        return False
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _drop_abandoned(folder)
    partial = folder.parent / f'.{folder.name}.partial-{os.getpid()}'
    digests = {}
    try:
        partial.mkdir()
        for name, data in tqdm(
            files, 'drawing', total, unit='file', disable=not progress
        ):
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            digests[name] = hashlib.sha256(data).hexdigest()
        manifest = {'spec': _through_json(description), 'sha256': digests}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True


def _through_json(description: dict) -> dict:
    # So that it compares equal to what was stored.
    return json.loads(json.dumps(description))


def _drop_abandoned(out_dir: Path) -> None:
    """Remove the half-written folders of processes that are gone."""
    for left in out_dir.parent.glob(f'.{out_dir.name}.partial-*'):
        try:
            os.kill(int(left.name.rpartition('-')[2]), 0)
        except ProcessLookupError:
            shutil.rmtree(left)
        except PermissionError:
            continue


def _refuse_foreign(folder: Path) -> None:
    """Raise unless the folder is absent, empty or made by us."""
    foreign = folder.exists() and (
        not folder.is_dir()
        or (any(folder.iterdir()) and not (folder / MANIFEST).is_file())
    )
    if foreign:
        raise ValueError(
            'out_dir must be a new or empty folder or an earlier data set of '
            f'this command, but {folder} holds something else (no {MANIFEST})'
        )
