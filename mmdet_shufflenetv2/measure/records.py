"""Measurements on disk: one CSV file per kind, one row per measurement.

Files are append-only, with one line per row. The next write removes an
incomplete last line, such as a power cut leaves. The ``schema`` column holds
the version of these rules that a row was written by.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UserError

SCHEMA = '1'
# Old column names and their current ones.
RENAMED = {'doubt': 'warning'}


class RecordsError(UserError):
    """A file does not hold records, or cannot be written."""


def parse(data: bytes) -> list[list[str]]:
    """Return the header of a CSV file, with current names, and its rows.

    Raises:
        UnicodeDecodeError, csv.Error: the data is not a CSV file.
    """
    # Spreadsheets put a byte order mark in front.
    lines = data.decode('utf-8-sig').splitlines()
    # Parse line by line so that an unclosed quote spoils only its own line.
    header, *rows = [next(csv.reader([line]), []) for line in lines] or [[]]
    # Two commands that create the file at the same time both write a header.
    rows = [row for row in rows if row and row != header]
    return [[RENAMED.get(name, name) for name in header], *rows]


class Records:
    """The rows of one CSV file.

    Args:
        path: the file; it need not exist yet.
        columns: names of all columns after ``schema``.

    Attributes:
        rows: all complete rows of the file.

    Raises:
        RecordsError: the file is not a CSV file, has other columns, or was
            written by a newer version.
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str]):
        self.path = Path(path)
        self.columns = ('schema', *columns)
        self.rows, *_ = self._read()

    def find(self, identity: Mapping[str, object]) -> list[dict[str, str]]:
        """Return the rows that have these values in these columns."""
        wanted = {key: str(value) for key, value in identity.items()}
        return [row for row in self.rows if wanted.items() <= row.items()]

    def append(
        self, rows: Sequence[Mapping[str, object]]
    ) -> list[dict[str, str]]:
        """Write all rows or, if the operating system fails, none of them.

        An empty sequence checks that the file can be written, which is worth
        doing before minutes of measuring.

        Args:
            rows: missing columns stay empty.

        Returns:
            the rows as they will be read back.

        Raises:
            ValueError: a row has a column that the file does not have.
            RecordsError: the file cannot be written.
        """
        blank = dict.fromkeys(self.columns, '') | {'schema': SCHEMA}
        added = [
            blank | {k: ' '.join(str(v).splitlines()) for k, v in row.items()}
            for row in rows
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator='\n')
        # Another process may have written since this one read the file.
        _, whole, size = self._read()
        if not whole:
            writer.writeheader()
        writer.writerows(added)
        data = text.getvalue().encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open('a+b', buffering=0) as file:
                if whole < size:
                    file.truncate(whole)
                start, written = file.seek(0, os.SEEK_END), 0
                try:
                    while written < len(data):
                        written += file.write(data[written:])
                    os.fsync(file.fileno())
                except OSError:
                    # Keep what another process has written since.
                    if file.seek(0, os.SEEK_END) == start + written:
                        file.truncate(start)
                    raise
        except OSError as error:
            intact = f'; the {len(self.rows)} rows in it are intact'
            raise RecordsError(
                f'{self.path} cannot be written: {error.strerror}'
                + intact * bool(self.rows)
            ) from error
        self.rows += added
        return added

    def _read(self) -> tuple[list[dict[str, str]], int, int]:
        """Return complete rows, the size of complete lines, and the file's."""
        data = self.path.read_bytes() if self.path.is_file() else b''
        if not data:
            return [], 0, 0
        size = data.rfind(b'\n') + 1
        try:
            header, *found = parse(data[:size] or data)
        except (UnicodeDecodeError, csv.Error) as error:
            raise RecordsError(
                f'{self.path} is not a CSV file: {error}'
            ) from error
        schemas = {row[0] for row in found if header[:1] == ['schema']}
        if newer := schemas - {SCHEMA}:
            raise RecordsError(
                f'{self.path} was written by a newer version of this package '
                f'(schema {max(newer)}, expected {SCHEMA}) and was not '
                'changed; update the package or name another file'
            )
        if header != list(self.columns):
            raise RecordsError(
                f'{self.path}: expected columns {", ".join(self.columns)}, '
                f'got {", ".join(header) or "none"}; move the file away or '
                'name another one'
            )
        complete = [row for row in found if len(row) == len(header)]
        rows = [dict(zip(header, row, strict=True)) for row in complete]
        return rows, size, len(data)
