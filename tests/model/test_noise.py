"""The seed alone fixes the noise, for ever: these numbers must not change with any version of anything."""

from __future__ import annotations

import numpy as np
import pytest

from soundctm.noise import SEED_MAX, Stream, standard_normal

# (seed, stream, index) -> the first values of shape (2, 3), row by row
VECTORS = {
    (0, Stream.START, 0): [
        [0.15853384137153625, -1.9256919622421265, -0.2025032788515091],
        [2.982879400253296, -0.8249255418777466, 1.1557642221450806],
    ],
    (SEED_MAX, Stream.STEP, 3): [
        [-2.8900439739227295, 0.5814191102981567, -1.3244218826293945],
        [-0.6411718130111694, -1.3154118061065674, 0.42538461089134216],
    ],
    (20250101, Stream.DECODER, 0): [
        [0.391761839389801, 0.7285866141319275, -0.855864942073822],
        [-0.46178343892097473, -0.24889615178108215, 0.19672462344169617],
    ],
}


@pytest.mark.parametrize("key", VECTORS)
def test_pinned_vectors(key: tuple[int, Stream, int]) -> None:
    found = standard_normal(*key, (2, 3))
    assert found.dtype == np.float32
    # half a float32 step: mathematical libraries may round the last bit of a float64 cosine differently
    np.testing.assert_allclose(found, np.array(VECTORS[key]), rtol=1.2e-7, atol=0)


def test_the_bit_source_is_philox_as_published() -> None:
    """Known answer of Random123 for philox4x64-10, counter 0 and key 0 (NumPy counts up before it draws)."""
    raw = np.random.Philox(counter=2**256 - 1, key=0).random_raw(4)
    assert [int(word) for word in raw] == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    ]  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3, 8])
def test_a_longer_clip_begins_with_the_noise_of_a_shorter_one(channels: int) -> None:
    long = standard_normal(5, Stream.START, 0, (channels, 31))
    for frames in (1, 2, 17, 30):
        assert np.array_equal(standard_normal(5, Stream.START, 0, (channels, frames)), long[:, :frames])


def test_seeds_streams_and_indices_are_independent() -> None:
    keys = [(seed, stream, index) for seed in (0, 1) for stream in Stream for index in (0, 1)]
    rows = np.stack([standard_normal(*key, (1, 20000))[0] for key in keys])
    correlation = np.corrcoef(rows) - np.eye(len(keys))
    # 120 pairs of 20000 draws: five standard deviations of a correlation by chance
    assert np.abs(correlation).max() < 5 / np.sqrt(20000)


@pytest.mark.parametrize(("channels", "first"), [(1, 1), (1, 6), (3, 5), (40, 7), (4, 0)])
def test_a_piece_of_a_clip_has_the_noise_that_the_whole_has_there(channels: int, first: int) -> None:
    whole = standard_normal(5, Stream.DECODER, 2, (channels, 31))
    piece = standard_normal(5, Stream.DECODER, 2, (channels, 9), first)
    assert np.array_equal(piece, whole[:, first : first + 9])


def test_the_values_are_standard_normal() -> None:
    values = standard_normal(7, Stream.START, 0, (4, 50000)).astype(np.float64).ravel()
    count = values.size
    assert abs(values.mean()) < 5 / np.sqrt(count)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / count)
    assert abs((values**4).mean() - 3) < 5 * np.sqrt(96 / count)
    lags = [np.mean(values[lag:] * values[:-lag]) for lag in (1, 2, 3, 4)]  # a pair must not show itself
    assert np.abs(lags).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize("seed", [-1, SEED_MAX + 1])
def test_a_seed_out_of_range_is_named(seed: int) -> None:
    with pytest.raises(ValueError, match=str(seed)):
        standard_normal(seed, Stream.START, 0, (1, 1))
