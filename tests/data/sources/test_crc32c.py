import numpy as np
import pytest

from t5like.data.sources.crc32c import crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_the_vectors_of_rfc_3720(data, checksum):
    assert crc32c(data) == checksum


def _bit_by_bit(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [1, 31, 32, 33, 35, 36, 2047, 2048, 2049, 2051, 2052, 4096, 5000, 9001])
def test_pieces_give_what_single_bits_give(length):
    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == _bit_by_bit(data)
