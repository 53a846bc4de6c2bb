"""Choose the folder of a run: ``work_dirs/NAME``, ``NAME-2``, ...

Checkpoints record which data the run trains on, so that ``--resume`` never
continues from the checkpoint of another data set. The folder's ``data.json``
says the same to its readers.
"""

import hashlib
import os
import re
from itertools import count
from pathlib import Path

from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

from ..compat.input_format import meta_of
from ..data.reading import read_boxes
from ..errors import UserError
from .run_data import NOTE, datasets_of, once_per_run, source_of

# Subfolder for the output of `test`.
TESTS = 'test'


def choose_run_dir(
    cfg: Config,
    data: list[dict],
    work_dir: str | None,
    name: str | None,
    resume: str | None,
) -> str:
    """Create the folder of a run, as the options of these names choose it.

    ``data`` is that of the run, see :func:`data_of`. ``resume`` is ``'auto'``
    or a checkpoint; `UserError` if there is none of this data.
    """
    base = work_dir or (f'work_dirs/{name}' if name else cfg.work_dir)
    if resume == 'auto':
        runs = [Path(base)] if work_dir else find_runs(base)
        folder = _run_to_resume({f: last_of(f) for f in runs}, base, data)
    elif work_dir or resume:
        folder = Path(work_dir or Path(resume).parent)
        if resume:
            _run_to_resume({folder: resume}, base, data)
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = once_per_run(lambda: new_folder(base, NOTE))
    return str(folder)


def new_folder(base: str, claim: str | None = None) -> Path:
    """Create the first of ``base``, ``base-2``, ... that is empty or missing.

    An empty file named ``claim`` reserves it, so that two runs that start at
    the same time get different folders.
    """
    for number in count(1):
        path = Path(base if number == 1 else f'{base}-{number}')
        try:
            path.mkdir(parents=True, exist_ok=True)
            # A folder that holds only the output of a test has no run.
            if {each.name for each in path.iterdir()} <= {TESTS}:
                if claim:
                    path.joinpath(claim).touch(exist_ok=False)
                return path
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f'cannot write to the folder {path}: {error.strerror}; choose '
                'another'
            ) from error


def find_runs(base: str) -> list[Path]:
    """The existing folders ``base``, ``base-2``, ..., newest first."""
    folder, name = Path(base).parent, Path(base).name
    numbers = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = re.fullmatch(re.escape(name) + r'(?:-(\d+))?', path.name)
        if match and path.is_dir():
            numbers[path] = int(match[1] or 1)
    return sorted(numbers, key=numbers.get, reverse=True)


def last_of(folder: str | Path) -> str:
    """The last checkpoint of the run in a folder; '' if there is none.

    mmengine stores its absolute path, but the folder may have been moved.
    """
    note = Path(folder, 'last_checkpoint')
    path = note.read_text(encoding='utf-8').strip() if note.is_file() else ''
    here = os.path.join(folder, os.path.basename(path))
    return here if os.path.isfile(here) else path


def _run_to_resume(
    checkpoints: dict[Path, str], base: str, now: list[dict]
) -> Path:
    """The first folder whose checkpoint was trained on the data ``now``."""
    wanted, others = [each['digest'] for each in now], []
    for folder, path in checkpoints.items():
        if not path:
            continue
        checkpoint = CheckpointLoader.load_checkpoint(path, 'cpu', logger=None)
        known = meta_of(checkpoint).get('trained_on') or [{}]
        digests = [each.get('digest') for each in known]
        # Checkpoints of other tools and of older versions have none.
        if None in digests or digests == wanted:
            return folder
        others += [f'  {path}: {each["path"]}' for each in known]
    if not others:
        raise UserError(
            f'--resume: there is no run with a checkpoint in {base}; choose '
            'one with --work-dir DIR or --resume CKPT, or start without '
            '--resume'
        )
    paths = ', '.join(each['path'] for each in now)
    raise UserError(
        f'--resume: these checkpoints were not trained on {paths}, or it has '
        'changed since:\n'
        + '\n'.join(others)
        + '\nStart a new run without --resume (in another --work-dir), or '
        'start from the weights of one of these with --from CKPT'
    )


def data_of(cfg: Config) -> list[dict]:
    """Path and digest of each training data set.

    The digest is that of the table of boxes; without one, that of the
    annotation file, or of the names of the files in the folder.
    """
    found = []
    for split, dataset in datasets_of(cfg):
        if split != 'train':
            continue
        prefix = dataset.get('data_prefix')
        prefix = prefix if isinstance(prefix, str) else ''
        root = dataset.get('data_root') or ''
        path = Path(root, dataset.get('ann_file') or prefix)
        source = source_of(dataset)
        if source:
            # Which part is held out is a setting, not a property of the data.
            digest = read_boxes(source._replace(part=None)).digest()
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            names = [str(p.relative_to(path)) for p in sorted(path.rglob('*'))]
            digest = hashlib.sha256(os.fsencode('\n'.join(names))).hexdigest()
        found.append(dict(path=str(path.absolute()), digest=digest))
    return found
