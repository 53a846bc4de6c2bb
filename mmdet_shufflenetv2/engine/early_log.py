"""Keep log records until the log file is open.

The data is checked before the runner opens the log file.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler

from mmengine.logging import MMLogger


def keep_records() -> None:
    """Keep all log records until :func:`write_kept_records` is called."""
    logger = MMLogger.get_current_instance()
    # Drop the records of an earlier command that opened no log file.
    write_kept_records(logger, [])
    handler = MemoryHandler(sys.maxsize, flushLevel=logging.CRITICAL + 1)
    logger.addHandler(handler)


def write_kept_records(early: MMLogger, handlers: list) -> None:
    """Pass the records kept by ``early`` to the first file handler, if any."""
    files = [h for h in handlers if isinstance(h, logging.FileHandler)]
    for kept in [h for h in early.handlers if isinstance(h, MemoryHandler)]:
        early.removeHandler(kept)
        kept.setTarget(files[0] if files else None)
        kept.close()


@contextmanager
def quiet_log(level: str = 'WARNING') -> Iterator[None]:
    """Raise the level of the current logger; also works as a decorator.

    Otherwise building a network logs every parameter that it initialises.
    """
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
