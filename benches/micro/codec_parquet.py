"""What Parquet takes for the columns that `benches/micro/codec.rs` exports, in bytes per value.

Usage: codec_parquet.py <directory>; needs `pyarrow` and `numpy`. One row group, one file a column, zstd level 1 unless said:
dictionary (what writers do by default), without, byte stream split, and, for a user who declares decimals as integers,
DELTA_BINARY_PACKED.
"""

import io
import sys
from pathlib import Path

import numpy
import pyarrow
import pyarrow.parquet

PLAIN = {"use_dictionary": False}
WAYS = {
    "dictionary": {},
    "dictionary, zstd 9": {"compression_level": 9},
    "plain, zstd 9": {"compression_level": 9, **PLAIN},
    "split": {"column_encoding": {"v": "BYTE_STREAM_SPLIT"}, **PLAIN},
}


def bytes_per_value(values, options):
    file = io.BytesIO()
    options = {"compression": "zstd", "compression_level": 1, **options}
    pyarrow.parquet.write_table(pyarrow.table({"v": values}), file, **options)
    return len(file.getvalue()) / len(values)


def integers(values):
    """Decimals without their points; nothing if they are none."""
    for digits in range(6):
        scaled = numpy.rint(values * 10**digits)
        if (scaled / 10**digits == values).all():
            return scaled.astype(numpy.int64)
    return None


for path in sorted(Path(sys.argv[1]).glob("*.f64")):
    values = numpy.fromfile(path, "<f8")
    sizes = [f"{way} {bytes_per_value(values, options):.3f}" for way, options in WAYS.items()]
    scaled = integers(values)
    if scaled is not None:
        packed = {"column_encoding": {"v": "DELTA_BINARY_PACKED"}, **PLAIN}
        sizes.append(f"as integers, delta {bytes_per_value(scaled, packed):.3f}")
    print(f"{path.stem:26}", "; ".join(sizes))
