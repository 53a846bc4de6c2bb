"""What a run says before it has a log file, brought into the log file.

Checks of the data come before the runner, which opens the file.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.logging import MMLogger


class _Kept(logging.Handler):
    """Keeps records, and the terminal's handler shows them as always."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def forget_records() -> None:
    """Keep nothing any more, as where a command wrote no log file."""
    logger = MMLogger.get_current_instance()
    for kept in [h for h in logger.handlers if isinstance(h, _Kept)]:
        logger.removeHandler(kept)


def keep_records() -> None:
    """Keep what is logged from now on until :func:`write_kept_records`."""
    forget_records()
    MMLogger.get_current_instance().addHandler(_Kept())


def write_kept_records(early: MMLogger, logger: MMLogger) -> None:
    """Write what an early logger kept into the file of the run's logger."""
    files = [h for h in logger.handlers if isinstance(h, logging.FileHandler)]
    for kept in [h for h in early.handlers if isinstance(h, _Kept)]:
        early.removeHandler(kept)
        for record in kept.records:
            for file in files:
                if record.levelno >= file.level:
                    file.handle(record)


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
