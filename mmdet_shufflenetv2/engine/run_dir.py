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
from mmengine.dist import broadcast_object_list, is_main_process

from ..errors import UserError
from .run_data import datasets_of

NOTE = 'data.json'
# What `test` leaves, in the folder of that name.
TESTS = 'test'
# A file for each image, in some formats.
ANNOTATIONS = {'.txt', '.xml', '.csv', '.json'}


def new_run_dir(base: str) -> str:
    """Make the folder of a new run; all its processes get the same path.

    Args:
        base: Where the run goes if that is absent or empty; otherwise
            ``base-2``, ``base-3`` and so on.

    Raises:
        UserError: It cannot be made.
    """
    made = [None]
    if is_main_process():
        try:
            made = [_make_new(Path(base))]
        except OSError as error:
            raise UserError(
                f'cannot write to the work dir {base}: {error.strerror}; '
                'choose another with --work-dir'
            ) from error
    broadcast_object_list(made)
    return made[0]


def _make_new(base: Path) -> str:
    number, path = 1, base
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
        path = base.with_name(f'{base.name}-{number}')


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


def last_run_dir(base: str, cfg: Config) -> str:
    """The folder of the last run that ``--resume`` can go on with.

    Args:
        base: As of :func:`new_run_dir`.
        cfg: With the data that the command line names.

    Raises:
        UserError: No run of that name has a checkpoint, or all were trained
            on other data; names it.
    """
    runs = [p for p in find_runs(base) if (p / 'last_checkpoint').is_file()]
    if not runs:
        raise UserError(
            f'--resume: no run has left a checkpoint in {base}; name one with '
            '--work-dir DIR or --resume CKPT, or leave --resume out to start'
        )
    now = data_of(cfg)
    for path in runs:
        before = read_note(path)
        if before is None or same_data(before, now):
            return str(path)
    raise UserError(
        f'--resume: the runs of this name were not trained on {_paths(now)}, '
        'or it has changed since:\n'
        + '\n'.join(f'  {p}: {_paths(read_note(p))}' for p in runs)
        + '\nLeave --resume out to start a new run, or start from the weights '
        'of one with --from CKPT'
    )


def require_same_data(work_dir: str, cfg: Config) -> None:
    """Refuse to go on where a run was trained on other data.

    Raises:
        UserError: It was; names both.
    """
    before, now = read_note(work_dir), data_of(cfg)
    if before is not None and not same_data(before, now):
        raise UserError(
            f'--resume: the run in {work_dir} was trained on '
            f'{_paths(before)}, and {_paths(now)} is other data, or has '
            'changed since; leave --resume out and choose another --work-dir, '
            'or start from its weights with --from CKPT'
        )


def note_data(cfg: Config) -> None:
    """Write down in the work dir what its run trains on."""
    if is_main_process():
        text = json.dumps(data_of(cfg), indent=1)
        Path(cfg.work_dir, NOTE).write_text(text + '\n', encoding='utf-8')


def read_note(work_dir: str | Path) -> list[dict] | None:
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
        path = Path(dataset.get('data_root') or '')
        prefix = dataset.get('data_prefix')
        path /= dataset.get('ann_file') or (
            prefix if isinstance(prefix, str) else ''
        )
        if path.is_file():
            digest.update(path.read_bytes())
        for folder, subfolders, files in os.walk(path):
            subfolders.sort()
            for name in sorted(files):
                file = Path(folder, name)
                digest.update(os.fsencode(file.relative_to(path)))
                if file.suffix.lower() in ANNOTATIONS:
                    digest.update(file.read_bytes())
        found.append(
            dict(path=str(path.absolute()), sha256=digest.hexdigest())
        )
    return found


def same_data(one: list[dict], other: list[dict]) -> bool:
    """Whether two notes are of the same annotations, wherever they lie."""
    return [d['sha256'] for d in one] == [d['sha256'] for d in other]


def _paths(note: list[dict]) -> str:
    return ', '.join(each['path'] for each in note)
