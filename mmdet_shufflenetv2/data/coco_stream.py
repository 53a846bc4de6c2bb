"""Reading and writing COCO annotation files record by record.

``instances_train2017.json`` is a file of 450 MB that takes several GB as
Python objects. Here one record is in memory at a time; the text of a record
can be copied to another file unchanged, so no number loses a digit.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError

#: The entries of a COCO file that hold one record per element.
SECTIONS = ('images', 'annotations', 'categories')
_CHUNK = 4 << 20
_SPACE = ' \t\n\r'


class DatasetError(UserError):
    """A data set cannot be used; names the file, the record, the remedy."""


class Record(NamedTuple):
    """One element of a section, or a whole entry that is no section.

    Args:
        section: Name of the entry at the top level of the file.
        index: Position in the section; -1 for an entry that is no section.
        value: The parsed JSON value.
        text: The characters it was parsed from.
    """

    section: str
    index: int
    value: Any
    text: str


class _Scanner:
    """A window over a text file that JSON values are parsed out of."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, encoding='utf-8-sig')  # noqa: SIM115
        self._buffer, self._at, self._passed = '', 0, 0
        self._ended = False
        self._decode = json.JSONDecoder().raw_decode

    def close(self) -> None:
        self._file.close()

    def fail(self, what: str) -> DatasetError:
        return DatasetError(
            f'{self.path} is no readable COCO annotation file: {what} at '
            f'character {self._passed + self._at}'
        )

    def _read_more(self) -> bool:
        """Enlarge the window; what was parsed already is let go."""
        try:
            # Doubling keeps one huge value from being parsed once per chunk.
            more = self._file.read(max(_CHUNK, len(self._buffer) - self._at))
        except UnicodeDecodeError as error:
            raise self.fail(f'not UTF-8 text ({error.reason})') from error
        self._passed += self._at
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        self._ended = not more
        return bool(more)

    def peek(self) -> str:
        """The next character that is no white space; '' at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._read_more():
                return ''

    def take(self, allowed: str, where: str) -> str:
        found = self.peek()
        if not found or found not in allowed:
            names = ' or '.join(repr(mark) for mark in allowed)
            found = repr(found) if found else 'the end of the file'
            raise self.fail(f'expected {names} {where}, found {found}')
        self._at += 1
        return found

    def value(self) -> tuple[Any, str]:
        """Parse the value that comes next; return it and its text."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._read_more():
                    continue
                raise self.fail(error.msg) from error
            except RecursionError as error:
                raise self.fail('a value nested too deeply') from error
            # A number at the window's edge may go on in the next chunk.
            if end == len(self._buffer) and not self._ended:
                self._read_more()
                continue
            text = self._buffer[self._at : end]
            self._at = end
            return value, text


def iter_records(
    path: str | os.PathLike,
    progress: Callable[[int], Any] | None = None,
) -> Iterator[Record]:
    """Yield everything in a COCO file in the file's order.

    Args:
        path: The annotation file.
        progress: Called with the number of characters read since last time.

    Raises:
        DatasetError: The file is absent, empty or no JSON object, ends too
            early, or holds a section twice or as something else than a list.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f'annotation file {path} does not exist')
    if not path.stat().st_size:
        raise DatasetError(f'annotation file {path} is empty (0 bytes)')
    scanner = _Scanner(path)
    try:
        scanner.take('{', 'at the start')
        seen: set[str] = set()
        mark = '}' if scanner.peek() == '}' else ','
        while mark == ',':
            key, _ = scanner.value()
            if not isinstance(key, str) or key in seen:
                raise scanner.fail(f'a second or odd entry named {key!r}')
            seen.add(key)
            scanner.take(':', f'after {key!r}')
            if key in SECTIONS:
                yield from _iter_section(scanner, key, progress)
            else:
                value, text = scanner.value()
                yield Record(key, -1, value, text)
            mark = scanner.take(',}', f'after the entry {key!r}')
    finally:
        scanner.close()


def _iter_section(scanner: _Scanner, key: str, progress) -> Iterator[Record]:
    scanner.take('[', f'at the start of {key!r}')
    if scanner.peek() == ']':
        scanner.take(']', '')
        return
    index, mark = 0, ','
    while mark == ',':
        value, text = scanner.value()
        if not isinstance(value, dict):
            raise scanner.fail(f'{key}[{index}] is not an object')
        if progress is not None:
            progress(len(text))
        yield Record(key, index, value, text)
        mark = scanner.take(',]', f'after {key}[{index}]')
        index += 1


class CocoWriter:
    """Write a COCO file whose sections may be filled in any order.

    Each section is spooled to its own temporary file; leaving the ``with``
    block joins them and renames the result into place. After an error the
    file of that name is what it was before.

    Args:
        path: The annotation file to write.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.counts = dict.fromkeys(SECTIONS, 0)
        self._entries: dict[str, str] = {}

    def __enter__(self) -> 'CocoWriter':
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(
            prefix=f'.{self.path.name}.', dir=self.path.parent
        )
        root = Path(self._folder.name)
        self._spools = {
            name: open(root / name, 'w+', encoding='utf-8')  # noqa: SIM115
            for name in SECTIONS
        }
        return self

    def add(self, section: str, text: str) -> None:
        """Append a record, given as JSON text, to a section."""
        spool = self._spools[section]
        spool.write(',\n' if self.counts[section] else '\n')
        spool.write(text)
        self.counts[section] += 1

    def set_entry(self, key: str, text: str) -> None:
        """Set an entry that is no section, such as ``info``."""
        self._entries[key] = text

    def _join(self, target: Path) -> None:
        with open(target, 'w', encoding='utf-8') as file:
            file.write('{')
            for key, text in self._entries.items():
                file.write(f'{json.dumps(key)}: {text},\n')
            for number, (name, spool) in enumerate(self._spools.items()):
                file.write(f'{"," if number else ""}{json.dumps(name)}: [')
                spool.seek(0)
                shutil.copyfileobj(spool, file, _CHUNK)
                file.write(']\n')
            file.write('}\n')
            file.flush()
            os.fsync(file.fileno())

    def __exit__(self, kind, error, trace) -> None:
        try:
            if kind is None:
                joined = Path(self._folder.name) / 'joined'
                self._join(joined)
                joined.replace(self.path)
        finally:
            for spool in self._spools.values():
                spool.close()
            self._folder.cleanup()
