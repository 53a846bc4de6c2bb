"""Choose the folder of a run: ``work_dirs/NAME``, ``NAME-2``, ...

Its ``data.json`` records which data the run trains on, so that ``--resume``
never continues from the checkpoint of another data set.
"""

import hashlib
import json
import os
import re
from itertools import count
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..data.reading import read_boxes
from ..errors import UserError
from .run_data import datasets_of, once_per_run, source_of

NOTE = 'data.json'
# Subfolder for the output of `test`.
TESTS = 'test'
# Suffixes of annotation files, including those with one file per image.
ANNOTATIONS = {'.txt', '.xml', '.csv', '.json'}


def choose_run_dir(
    cfg: Config, work_dir: str | None, name: str | None, resume: str | None
) -> str:
    """Create the folder of a run, as the options of these names choose it.

    ``resume`` is ``'auto'`` or a checkpoint; ``'auto'`` raises `UserError` if
    there is no run on this data to resume.
    """
    base = work_dir or (f'work_dirs/{name}' if name else cfg.work_dir)
    data = data_of(cfg)
    if resume == 'auto':
        runs = [Path(base)] if work_dir else find_runs(base)
        folder = _run_to_resume(runs, base, data)
    elif work_dir or resume:
        folder = Path(work_dir or Path(resume).parent)
        folder.mkdir(parents=True, exist_ok=True)
    else:
        folder = once_per_run(lambda: new_folder(base, NOTE))
    if is_main_process():
        text = json.dumps(data, indent=1)
        Path(folder, NOTE).write_text(text + '\n', encoding='utf-8')
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


def _run_to_resume(folders: list[Path], base: str, now: list[dict]) -> Path:
    """The first folder whose run was trained on the data ``now``."""
    others = []
    for path in folders:
        if not (path / 'last_checkpoint').is_file():
            continue
        try:
            note = json.loads((path / NOTE).read_text(encoding='utf-8'))
        except (OSError, ValueError):  # The data is unknown.
            return path
        if [d['sha256'] for d in note] == [d['sha256'] for d in now]:
            return path
        others += [f'  {path}: {each["path"]}' for each in note]
    if not others:
        raise UserError(
            f'--resume: there is no run with a checkpoint in {base}; choose '
            'one with --work-dir DIR or --resume CKPT, or start without '
            '--resume'
        )
    paths = ', '.join(each['path'] for each in now)
    raise UserError(
        f'--resume: these runs were not trained on {paths}, or it has changed '
        'since:\n'
        + '\n'.join(others)
        + '\nStart a new run without --resume (in another --work-dir), or '
        'start from the weights of one of these with --from CKPT'
    )


def data_of(cfg: Config) -> list[dict]:
    """Path and digest of each training data set.

    The digest covers annotations and file names, but not where they are, so
    moving a data set does not change it.
    """
    found = []
    for split, dataset in datasets_of(cfg):
        if split != 'train':
            continue
        prefix = dataset.get('data_prefix')
        prefix = prefix if isinstance(prefix, str) else ''
        root = dataset.get('data_root') or ''
        path = Path(root, dataset.get('ann_file') or prefix)
        digest = hashlib.sha256()
        if path.is_file():
            digest.update(path.read_bytes())
        source = source_of(dataset)
        if source is None:
            files = sorted(path.rglob('*'))
            names = {file: file.relative_to(path) for file in files}
        else:
            # Which part is held out is a setting, not a property of the data.
            table = read_boxes(source._replace(part=None))
            pairs = zip(table.records, table.names, strict=True)
            names = {
                Path(file): os.path.basename(name) for file, name in pairs
            }
            names.pop(Path(source.ann), None)
        for file, name in names.items():
            digest.update(os.fsencode(name))
            if file.suffix.lower() in ANNOTATIONS and file.is_file():
                digest.update(file.read_bytes())
        found.append(
            dict(path=str(path.absolute()), sha256=digest.hexdigest())
        )
    return found
