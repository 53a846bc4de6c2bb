"""What a run says before it has a log file, brought into the log file.

Checks of the data come before the runner, which opens the file.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler

from mmengine.logging import MMLogger


def keep_records() -> None:
    """Keep what is logged from now on until :func:`write_kept_records`."""
    logger = MMLogger.get_current_instance()
    # What a command without a log file has left goes nowhere.
    write_kept_records(logger, [])
    handler = MemoryHandler(sys.maxsize, flushLevel=logging.CRITICAL + 1)
    logger.addHandler(handler)


def write_kept_records(early: MMLogger, handlers: list) -> None:
    """Give what an early logger kept to the file among a run's handlers."""
    files = [h for h in handlers if isinstance(h, logging.FileHandler)]
    for kept in [h for h in early.handlers if isinstance(h, MemoryHandler)]:
        early.removeHandler(kept)
        kept.setTarget(files[0] if files else None)
        kept.close()


@contextmanager
def quiet_log(level: str = 'WARNING') -> Iterator[None]:
    """Let the current logger pass only what matters; also a decorator.

    Without it, a network that is built without a run lists every parameter
    that it sets.
    """
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
