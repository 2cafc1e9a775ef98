"""Parquet files read by rows, a few at a time, whatever is in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from handeye.data.lerobot import pages
from handeye.data.lerobot.info import bad
from handeye.errors import UserError

AT_ONCE = 16
"""Rows of pictures that are held at a time."""


class Table:
    """An open parquet file. Rows are numbered through all its row groups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with damage(path):
            check_file(path)
            # Not buffered ahead: a row group of pictures can be as large as the file.
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
            self.schema: pa.Schema = self._file.schema_arrow
            metadata = self._file.metadata
            groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            if odd := [count for count in groups if not 0 <= count <= pages.MOST_ROWS]:
                raise ValueError(f"a row group has {odd[0]} rows; 0 to {pages.MOST_ROWS} are read")
        self._starts = [0, *itertools.accumulate(groups)]

    def __len__(self) -> int:
        return self._starts[-1]

    def require(self, columns: Sequence[str], where: object) -> None:
        """UserError where one of them is missing."""
        if missing := [name for name in columns if name not in self.schema.names]:
            raise bad(where, f"there is no column {', '.join(missing)} in {self.path}")

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
        """Rows start to stop of small columns."""
        groups = [g for g, (a, b) in enumerate(itertools.pairwise(self._starts)) if a < stop and b > start]
        with damage(self.path):
            pages.check(self.path, columns)
            table = self._file.read_row_groups(groups, columns=list(columns), use_threads=False)
            return table.slice(start - self._starts[groups[0]] if groups else 0, stop - start)

    def rows(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All of them, AT_ONCE at a time: a text that is stored once can be that of many rows."""
        for group, start in enumerate(self._starts[:-1]):
            for _, batch in self._batches(group, start, columns):
                yield batch

    def pictures(self, rows: Sequence[int], names: Sequence[str]) -> Iterator[tuple[int, dict[str, bytes]]]:
        """(row, column -> encoded picture) of `rows`, which ascend. A row group is unpacked from its start to the last
        row wanted of it, AT_ONCE rows at a time."""
        self.require(names, self.path)
        for name in names:
            kind = self.schema.field(name).type
            if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                raise bad(self.path, f"{name} is {kind} instead of a picture's bytes and path")
        for group, (first, end) in enumerate(itertools.pairwise(self._starts)):
            here = [row for row in rows if first <= row < end]
            if not here:
                continue
            came = first
            for start, batch in self._batches(group, first, [f"{name}.bytes" for name in names]):
                for row in here:
                    if start <= row < start + len(batch):
                        yield row, {name: self._picture(batch, name, row, start) for name in names}
                came = start + len(batch)
                if came > here[-1]:
                    break
            if came <= here[-1]:
                raise bad(self.path, f"it ends after {came} rows; its list of row groups has {end}")

    def _picture(self, batch: pa.RecordBatch, name: str, row: int, start: int) -> bytes:
        column = batch.column(name)
        content = column.field("bytes")[row - start].as_py() if column[row - start].is_valid else None
        if not isinstance(content, bytes):
            raise bad(f"row {row} of {self.path}", f"{name} has no picture bytes")
        return content

    def _batches(self, group: int, start: int, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        with damage(self.path):
            pages.check(self.path, columns)
            batches = self._file.iter_batches(AT_ONCE, row_groups=[group], columns=list(columns), use_threads=False)
        while True:
            with damage(self.path):
                batch = next(batches, None)
            if batch is None:
                return
            yield start, batch
            start += len(batch)

    def close(self) -> None:
        self._file.close()


def vectors(table: pa.Table, name: str, width: int, where: str) -> Float[np.ndarray, "n width"]:
    """A column of lists of `width` numbers, in its own precision."""
    kind = table.schema.field(name).type
    column = table.column(name).combine_chunks()
    lists = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type) or column.null_count:
        raise bad(where, f"{name} is {kind} with {column.null_count} rows empty instead of lists of {width} numbers")
    values = column.flatten()
    widths = {kind.list_size} if pa.types.is_fixed_size_list(kind) else set(column.value_lengths().to_pylist())
    if widths - {width} or values.null_count:
        raise bad(where, f"{name} has {sorted(widths)} numbers, {values.null_count} of them empty, instead of {width}")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), width)


def numbers(table: pa.Table, name: str, where: str) -> np.ndarray:
    """A column of one number (or truth value) per row."""
    column = table.column(name).combine_chunks()
    if pa.types.is_fixed_size_list(column.type) and column.type.list_size == 1:  # shape [1] written as a list
        column = column.flatten()
    kind = column.type
    known = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if not known or column.null_count or len(column) != len(table):
        raise bad(where, f"{name} is {kind} with {column.null_count} rows empty instead of one number per row")
    return np.asarray(column.to_numpy(zero_copy_only=False))


def check_file(path: Path) -> None:
    """There, not empty, and not a pointer to what was never downloaded."""
    if not path.is_file():
        raise bad(path, "the file is missing")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise bad(path, "it is empty")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is a Git LFS pointer, not the data itself.", fix="run `git lfs pull` where it was cloned"
        )


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Whatever pyarrow makes of a damaged file ends as a UserError."""
    try:
        yield
    except UserError:
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, MemoryError) as e:
        raise bad(path, str(e).strip().partition("\n")[0] or type(e).__name__) from e
