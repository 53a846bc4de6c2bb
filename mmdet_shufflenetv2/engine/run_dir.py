"""Every run has a folder of its own: ``work_dirs/NAME``, ``NAME-2``, ...

``data.json`` in it says which data the run trains on, so that ``--resume``
never goes on with the checkpoint of another data set.
"""

import hashlib
import json
import os
import re
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..errors import UserError
from .run_data import datasets_of, once_per_run

NOTE = 'data.json'
# What `test` leaves, in the folder of that name.
TESTS = 'test'
# A file for each image, in some formats.
ANNOTATIONS = {'.txt', '.xml', '.csv', '.json'}


def choose_run_dir(
    cfg: Config, work_dir: str | None, name: str | None, resume: str | None
) -> str:
    """The folder of a run.

    Args:
        cfg: With the data that the command line names.
        work_dir, name, resume: Of the command line; ``resume`` is ``'auto'``
            or a checkpoint.

    Raises:
        UserError: ``--resume`` has no run to go on with, or one that was
            trained on other data.
    """
    base = work_dir or (f'work_dirs/{name}' if name else cfg.work_dir)
    if resume == 'auto':
        runs = [Path(base)] if work_dir else find_runs(base)
        return _run_to_resume(runs, cfg)
    if work_dir:
        return work_dir
    return str(Path(resume).parent) if resume else new_run_dir(base)


def new_run_dir(base: str) -> str:
    """Make the folder of a new run; all its processes get the same path.

    Args:
        base: Where the run goes if that is absent or empty; otherwise
            ``base-2``, ``base-3`` and so on.

    Raises:
        UserError: It cannot be made.
    """

    def make() -> str:
        number, path = 1, Path(base)
        while True:
            path.mkdir(parents=True, exist_ok=True)
            # Where a test of other weights has left its log, no run has been.
            if {each.name for each in path.iterdir()} <= {TESTS}:
                try:
                    # Of two runs that begin at once, one gets the next number.
                    Path(path, NOTE).touch(exist_ok=False)
                    return str(path)
                except FileExistsError:
                    pass
            number += 1
            path = path.with_name(f'{Path(base).name}-{number}')

    def make_or_tell() -> str:
        try:
            return make()
        except OSError as error:
            raise UserError(
                f'cannot write to the work dir {base}: {error.strerror}; '
                'choose another with --work-dir'
            ) from error

    return once_per_run(make_or_tell)


def give_back(work_dir: str) -> None:
    """Remove the folder of a run that did not begin, if nothing is in it."""
    if is_main_process():
        Path(work_dir, NOTE).unlink(missing_ok=True)
        if not any(Path(work_dir).iterdir()):
            Path(work_dir).rmdir()


def find_runs(base: str) -> list[Path]:
    """The folders ``base``, ``base-2``, ... that exist, the newest first."""
    folder, name = Path(base).parent, Path(base).name
    numbers = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = re.fullmatch(re.escape(name) + r'(?:-(\d+))?', path.name)
        if match and path.is_dir():
            numbers[path] = int(match[1] or 1)
    return sorted(numbers, key=numbers.get, reverse=True)


def _run_to_resume(folders: list[Path], cfg: Config) -> str:
    """The first folder whose run was trained on this data."""
    runs = [p for p in folders if (p / 'last_checkpoint').is_file()]
    now = data_of(cfg)
    for path in runs:
        before = _read_note(path)
        if before is None or _digests(before) == _digests(now):
            return str(path)
    if not runs:
        raise UserError(
            '--resume: no run has left a checkpoint in '
            f'{folders[0] if folders else cfg.work_dir}; name one with '
            '--work-dir DIR or --resume CKPT, or leave --resume out to start'
        )
    raise UserError(
        f'--resume: these runs were not trained on {_paths(now)}, or it has '
        'changed since:\n'
        + '\n'.join(f'  {p}: {_paths(_read_note(p))}' for p in runs)
        + '\nLeave --resume out (and choose another --work-dir) to start a '
        'new run, or start from the weights of one with --from CKPT'
    )


def note_data(cfg: Config) -> None:
    """Write down in the work dir what its run trains on."""
    if is_main_process():
        text = json.dumps(data_of(cfg), indent=1)
        Path(cfg.work_dir, NOTE).write_text(text + '\n', encoding='utf-8')


def _read_note(work_dir: Path) -> list[dict] | None:
    """What a run was trained on; None if it did not say."""
    try:
        note = json.loads(Path(work_dir, NOTE).read_text(encoding='utf-8'))
        return [dict(path=d['path'], sha256=d['sha256']) for d in note]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def data_of(cfg: Config) -> list[dict]:
    """Path and digest of each training data set.

    The digest is that of the annotations and the names of files, so that a
    data set that was moved stays the same one.
    """
    found = []
    for split, dataset in datasets_of(cfg):
        if split != 'train':
            continue
        digest = hashlib.sha256()
        prefix = dataset.get('data_prefix')
        path = Path(
            dataset.get('data_root') or '',
            dataset.get('ann_file')
            or (prefix if isinstance(prefix, str) else ''),
        )
        if path.is_file():
            digest.update(path.read_bytes())
        for file in sorted(path.rglob('*')) if path.is_dir() else ():
            digest.update(os.fsencode(file.relative_to(path)))
            if file.suffix.lower() in ANNOTATIONS and file.is_file():
                digest.update(file.read_bytes())
        found.append(
            dict(path=str(path.absolute()), sha256=digest.hexdigest())
        )
    return found


def _digests(note: list[dict]) -> list[str]:
    return [each['sha256'] for each in note]


def _paths(note: list[dict]) -> str:
    return ', '.join(each['path'] for each in note)
