"""What a job's state tells: its checkpoint's number, and where the source stood, which group offsets may lag behind."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from penstock.errors import PenstockError
from penstock.services.flink import local

#: A split's end where it has none, and its start where that is the log's: Kafka's connector's own marks.
_NO_END = -(2**63)
_EARLIEST = -2
_COMMITTED = -3

#: How `_metadata` begins: a mark, the format's version, and from version 3 on the checkpoint's number (Checkpoints,
#: MetadataV3Serializer and those derived from it).
_MAGIC, _NUMBERED, _HEADER = 0x4960672D, 3, struct.Struct(">iiq")


def checkpoint_id(uri: str) -> int | None:
    """Return the number of the checkpoint or savepoint in a directory; None where neither name nor header tells it."""
    named = re.fullmatch(r".*/chk-(\d+)/?", uri)
    if named is not None:
        return int(named[1])
    folder = local(uri)
    if folder is None:
        return None
    try:
        with (folder / "_metadata").open("rb") as file:
            header = file.read(_HEADER.size)
    except OSError:
        return None
    if len(header) < _HEADER.size:
        return None
    magic, version, number = _HEADER.unpack(header)
    return int(number) if magic == _MAGIC and version >= _NUMBERED else None


def source_offsets(savepoint: Path, topic: str, partitions: int) -> dict[int, int | None]:
    """Return the offset of the next record of each partition; None where nothing was read, so it is the first.

    Splits are kept as `writeUTF(topic), int partition, long offset, long end` (KafkaPartitionSplitSerializer): by the
    reader where it stands, by the enumerator as they were assigned, with a mark for an offset.  Raises PenstockError
    where a partition's offset is not told exactly once: then nothing can be built on it.
    """
    found: dict[int, set[int]] = {partition: set() for partition in range(partitions)}
    for file in sorted(savepoint.iterdir()):
        data = file.read_bytes()
        for partition, offsets in found.items():
            offsets |= _positions(data, topic, partition)
    stands: dict[int, int | None] = {}
    for partition, offsets in found.items():
        read = [offset for offset in offsets if offset >= 0]
        if len(read) > 1 or (not read and offsets != {_EARLIEST}):
            raise PenstockError(
                f"{savepoint} does not say where partition {partition} of {topic} was read to: {sorted(offsets)}",
                hint="was it made by this pipeline's job?",
            )
        stands[partition] = read[0] if read else None
    return stands


def _positions(data: bytes, topic: str, partition: int) -> set[int]:
    name = topic.encode()
    mark = struct.pack(">H", len(name)) + name + struct.pack(">i", partition)
    found, at = set(), data.find(mark)
    while at >= 0:
        rest = data[at + len(mark) : at + len(mark) + 16]
        if len(rest) == 16:
            offset, end = struct.unpack(">qq", rest)
            if end == _NO_END and offset >= _COMMITTED:
                found.add(offset)
        at = data.find(mark, at + 1)
    return found
