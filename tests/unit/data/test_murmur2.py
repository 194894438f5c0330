"""The hash agrees with Kafka's own test vectors (UtilsTest.testMurmur2)."""

import pytest

from penstock.data.murmur2 import murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "hash_"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2(key: bytes, hash_: int) -> None:
    assert murmur2(key) == hash_ % 2**32
    assert partition_of(key, 7) == (hash_ & 0x7FFFFFFF) % 7
