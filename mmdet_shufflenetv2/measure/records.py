"""Measurements on disk: one CSV file per kind, one row per measurement.

Rows are only ever added, and a row is one line. What a power cut left of a
row, a last line without an end, goes with the next rows that are written. The
``schema`` column says by which version of these rules a row was written.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UserError

SCHEMA = '1'
# Columns of earlier files by the names they have now.
RENAMED = {'doubt': 'warning'}


class RecordsError(UserError):
    """A file that is not one of records, or cannot be written."""


def parse(data: bytes) -> list[list[str]]:
    """The header of a CSV file, by today's names, and its rows.

    Raises:
        UnicodeDecodeError, csv.Error: it is not a CSV file.
    """
    # With the mark that spreadsheets put in front, or without.
    lines = data.decode('utf-8-sig').splitlines()
    # One by one: an open quote of a bad line spoils no other.
    header, *rows = [next(csv.reader([line]), []) for line in lines] or [[]]
    # Two commands that began the file at once both wrote a header.
    rows = [row for row in rows if row and row != header]
    return [[RENAMED.get(name, name) for name in header], *rows]


class Records:
    """The rows of one CSV file.

    Args:
        path: the file.
        columns: of every row, after ``schema``.

    Attributes:
        rows: the whole rows of the file.

    Raises:
        RecordsError: the file is not a CSV file, has other columns, or was
            written by a newer version.
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str]):
        self.path = Path(path)
        self.columns = ('schema', *columns)
        self.rows, _ = self._read()

    def find(self, identity: Mapping[str, object]) -> list[dict[str, str]]:
        """The rows that have these values in these columns."""
        wanted = {key: str(value) for key, value in identity.items()}
        return [row for row in self.rows if wanted.items() <= row.items()]

    def append(
        self, rows: Sequence[Mapping[str, object]]
    ) -> list[dict[str, str]]:
        """Write rows, all of them or, if the system fails, none.

        Without any it makes sure that the file can be written: before the
        minutes of measuring, not after them.

        Args:
            rows: columns that one lacks stay empty.

        Returns:
            the rows as they will be read.

        Raises:
            ValueError: a row has a column that the file has not.
            RecordsError: the system does not write.
        """
        blank = dict.fromkeys(self.columns, '') | {'schema': SCHEMA}
        added = [
            blank | {k: ' '.join(str(v).splitlines()) for k, v in row.items()}
            for row in rows
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator='\n')
        # Somebody else may have written since this file was read.
        _, whole = self._read()
        if not whole:
            writer.writeheader()
        writer.writerows(added)
        data = text.getvalue().encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open('a+b', buffering=0) as file:
                file.truncate(whole)
                try:
                    while data:
                        data = data[file.write(data) :]
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(whole)
                    raise
        except OSError as error:
            raise RecordsError(
                f'{self.path} cannot be written: {error.strerror}; the '
                f'{len(self.rows)} rows in it are whole'
            ) from error
        self.rows += added
        return added

    def _read(self) -> tuple[list[dict[str, str]], int]:
        """The whole rows, and how many bytes the whole lines take."""
        data = self.path.read_bytes() if self.path.is_file() else b''
        whole = data.rfind(b'\n') + 1
        if not data:
            return [], 0
        try:
            header, *found = parse(data[:whole] or data)
        except (UnicodeDecodeError, csv.Error) as error:
            raise RecordsError(
                f'{self.path} is not a CSV file: {error}'
            ) from error
        schemas = {row[0] for row in found if header[:1] == ['schema']}
        if newer := schemas - {SCHEMA}:
            raise RecordsError(
                f'{self.path} was written by a newer version of this package '
                f'(schema {max(newer)}, this one knows {SCHEMA}) and is left '
                'as it is; update the package or name another file'
            )
        if header != list(self.columns):
            raise RecordsError(
                f'{self.path}: its columns are {", ".join(header)}; the new '
                f'rows have {", ".join(self.columns)}; move the file away or '
                'name another one'
            )
        whole_rows = [row for row in found if len(row) == len(header)]
        return [dict(zip(header, r, strict=True)) for r in whole_rows], whole
