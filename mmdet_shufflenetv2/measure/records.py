"""Measurements on disk: one CSV file per kind, one row per measurement.

Rows are only ever added. A file says in its ``schema`` column by which
version of this module's rules its rows were written.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.run_config import UsageError

SCHEMA = 1


class RecordsError(UsageError):
    """A file of records that is none, or that rows cannot be added to.

    Attributes:
        what: what is wrong with it, without the advice for a command that
            writes.
    """

    def __init__(self, what: str, advice: str = ''):
        super().__init__(what + advice)
        self.what = what


class Records:
    """The rows of one CSV file, which is made with the first of them.

    Args:
        path: the file.
        columns: of every row, behind ``schema``.

    Attributes:
        rows: the whole rows of the file.
        cut: the number of lines that are no whole rows, such as a power cut
            leaves behind.

    Raises:
        RecordsError: the file is no CSV file, has other columns, or was
            written by a newer version.
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str]):
        self.path = Path(path)
        self.columns = ('schema', *columns)
        self.rows, self.cut, _ = self._read()

    def find(self, identity: Mapping[str, object]) -> list[dict[str, str]]:
        """The rows that have these values in these columns."""
        wanted = {key: str(value) for key, value in identity.items()}
        return [row for row in self.rows if wanted.items() <= row.items()]

    def check_writable(self) -> None:
        """Fail before the minutes of measuring, not after them.

        Raises:
            RecordsError: the file cannot be written.
        """
        existed = self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open('ab'):
                pass
            if not existed:
                self.path.unlink()
        except OSError as error:
            raise RecordsError(
                f'{self.path} cannot be written: {error.strerror}',
                '; name another file',
            ) from error

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows, all of them or, if the system fails, none.

        Raises:
            ValueError: a row has other columns.
            RecordsError: the system does not write.
        """
        rows = [{'schema': SCHEMA, **row} for row in rows]
        for row in rows:
            if set(row) != set(self.columns):
                raise ValueError(
                    f'rows: all must have the columns {self.columns[1:]}, '
                    f'got {tuple(row)[1:]}'
                )
        # A row is one line, so that one that was cut short spoils no other.
        rows = [
            {k: ' '.join(str(v).splitlines()) for k, v in row.items()}
            for row in rows
        ]
        # Somebody else may have written since this file was read.
        *_, tail = self._read()
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator='\n')
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open('a+b', buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                writer.writeheader()
            elif tail:
                # What a power cut left of a row; it stays, alone.
                text.write(self._ending(tail) + '\n')
            writer.writerows(rows)
            try:
                _write(file, text.getvalue().encode())
            except OSError as error:
                if file.seek(0, os.SEEK_END) > size:
                    file.truncate(size)
                raise RecordsError(
                    f'{self.path} cannot be written: {error.strerror}',
                    f'; the {len(self.rows)} rows in it are whole',
                ) from error
        self.rows += rows

    def _ending(self, tail: str) -> str:
        """What keeps a line that was cut short from looking whole."""
        more = ',' * len(self.columns)
        return next(
            ending
            for ending in ('', more, '"' + more)
            if len(_values(tail + ending)) != len(self.columns)
        )

    def _read(self) -> tuple[list[dict[str, str]], int, str]:
        """The whole rows, how many others, and a last line without an end."""
        if not self.path.exists() or not self.path.stat().st_size:
            return [], 0, ''
        try:
            # With the mark that spreadsheets put in front, or without.
            lines = self.path.read_text(encoding='utf-8-sig').split('\n')
            # One by one: the quote of a row that was cut short is not closed.
            header, *found = map(_values, lines)
        except (UnicodeDecodeError, csv.Error) as error:
            raise RecordsError(
                f'{self.path} is no CSV file: {error}'
            ) from error
        # Two commands that began the file at once both wrote a header.
        found = [row for row in found if row not in ((), header)]
        # The last line, too, may have been cut short, in its last value.
        ended = found[:-1] if lines[-1] else found
        whole = [row for row in ended if len(row) == len(header)]
        schemas = {row[0] for row in whole if header[0] == 'schema'}
        if unknown := sorted(schemas - {str(SCHEMA)}):
            raise RecordsError(
                f'{self.path} was written by a newer version of this package '
                f'(schema {unknown[-1]}, this one knows {SCHEMA})',
                ' and is left as it is; update the package or name another '
                'file',
            )
        if header != self.columns:
            raise RecordsError(
                f'{self.path}: its columns are {", ".join(header)}; the new '
                f'rows have {", ".join(self.columns)}',
                '; move the file away or name another one',
            )
        rows = [dict(zip(header, row, strict=True)) for row in whole]
        return rows, len(found) - len(rows), lines[-1]


def _values(line: str) -> tuple[str, ...]:
    return tuple(next(csv.reader([line]), ()))


def _write(file: io.RawIOBase, data: bytes) -> None:
    """Write all of it, to the disk."""
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())
