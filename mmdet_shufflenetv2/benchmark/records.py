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

    Raises:
        RecordsError: the file is no CSV file, has other columns, or was
            written by a newer version.
    """

    def __init__(self, path: str | os.PathLike, columns: Sequence[str]):
        self.path = Path(path)
        self.columns = ('schema', *columns)
        self.rows = self._read()

    def find(self, identity: Mapping[str, object]) -> list[dict[str, str]]:
        """The rows that have these values in these columns."""
        wanted = {key: str(value) for key, value in identity.items()}
        return [row for row in self.rows if wanted.items() <= row.items()]

    def append(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows, all of them or, if the system fails, none.

        Raises:
            ValueError: a row has other columns.
        """
        rows = [{'schema': SCHEMA, **row} for row in rows]
        for row in rows:
            if set(row) != set(self.columns):
                raise ValueError(
                    f'rows: all must have the columns {self.columns[1:]}, '
                    f'got {tuple(row)[1:]}'
                )
        # Somebody else may have written since this file was read.
        self._read()
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator='\n')
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open('a+b') as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b'\n':
                    # What a power cut left of a row; it stays, alone.
                    text.write('\n')
            else:
                writer.writeheader()
            writer.writerows(rows)
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
        self.rows += [{k: str(v) for k, v in row.items()} for row in rows]

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists() or not self.path.stat().st_size:
            return []
        try:
            with self.path.open(newline='', encoding='utf-8') as file:
                reader = csv.DictReader(file)
                rows = list(reader)
                header = tuple(reader.fieldnames or ())
        except (UnicodeDecodeError, csv.Error) as error:
            raise RecordsError(
                f'{self.path} is no CSV file: {error}'
            ) from error
        newest = max(
            (int(r['schema']) for r in rows if _is_number(r.get('schema'))),
            default=SCHEMA,
        )
        if newest > SCHEMA:
            raise RecordsError(
                f'{self.path} was written by a newer version of this package '
                f'(schema {newest}, this one knows {SCHEMA})',
                ' and is left as it is; update the package or name another '
                'file',
            )
        if header != self.columns:
            raise RecordsError(
                f'{self.path}: its columns are {", ".join(header)}; the new '
                f'rows have {", ".join(self.columns)}',
                '; move the file away or name another one',
            )
        # A row that was cut short is no measurement.
        return [r for r in rows if None not in r.values() and None not in r]


def _is_number(text: str | None) -> bool:
    return bool(text) and text.isdecimal()
