"""Pseudo-random values that are functions of a seed and a number."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def random_bits(seed: int, numbers: Ints, stream: int) -> npt.NDArray[np.uint64]:
    """64 pseudo-random bits per number, by the finisher of splitmix64."""
    key = np.uint64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
    mixed = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def uniform(seed: int, numbers: Ints, stream: int) -> Floats:
    """A pseudo-random value in [0, 1) per number."""
    return np.asarray(
        (random_bits(seed, numbers, stream) >> np.uint64(11)) * 2.0**-53, dtype=np.float64
    )


def chances(seed: int, numbers: Ints) -> Floats:
    """A pseudo-random value in [0, 1) per operation, for choices of the server."""
    return uniform(seed, numbers, 40)
