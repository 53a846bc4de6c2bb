"""Run a command, in this process or another; options that make runs short."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import mmengine.device.utils as device
import torch
from mmdet.registry import TRANSFORMS
from mmengine.logging import MMLogger

from mmdet_shufflenetv2 import cli

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs' / 'lighthead_shufflenetv2_custom.py'
# Small enough for seconds, real in every part.
TINY = (
    *('--from-scratch', '--width', 0.5, '--image-size', '96x96'),
    *('--batch-size', 3, '--workers', 0, '--augment', 'none'),
)


@contextmanager
def process_as_before() -> Iterator[None]:
    """Take back what a command sets for its process."""
    threads, names = torch.get_num_threads(), TRANSFORMS.module_dict
    # mmdet's tools look for mmcv's loader; a fixture may have left ours.
    loader = names.pop('LoadImageFromFile', None)
    with (
        mock.patch.dict(os.environ),
        mock.patch.object(device, 'DEVICE', device.DEVICE),
    ):
        yield
    names.pop('LoadImageFromFile', None)
    if loader:
        names['LoadImageFromFile'] = loader
    # They write to what stood for stdout when they were made.
    MMLogger._instance_dict.clear()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def run(name, *arguments, code=0) -> str:
    """Run a command; give all that it printed, to stderr too."""
    printed, returned = io.StringIO(), 0
    with (
        process_as_before(),
        redirect_stdout(printed),
        redirect_stderr(printed),
    ):
        try:
            cli.main(name, [str(each) for each in arguments])
        except SystemExit as stopped:
            returned = stopped.code
    assert returned == code, printed.getvalue()[-4000:]
    return printed.getvalue()


def python(*arguments, cwd=ROOT, **variables) -> str:
    """What Python prints in a process of its own, where it has to succeed."""
    known = dict(OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **known, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout + done.stderr
