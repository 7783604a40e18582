"""Damage to the bytes of a file, as disks, networks and people do it."""

import numpy as np


def damage(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """Cut, flip, zero, overwrite or splice; headers, which decide most, more often."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        size = len(changed)
        if not size:
            break
        at = int(rng.integers(0, size if rng.random() < 0.5 else min(size, 700)))
        length = int(rng.integers(1, 40))
        kind = rng.integers(0, 6)
        if kind == 0:
            del changed[at:]
        elif kind == 1:
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif kind == 3:
            changed[at : at + 4] = rng.bytes(4) if rng.random() < 0.5 else b"\xff\xff\xff\xff"
        elif kind == 4:
            del changed[at : at + length]
        else:
            other = others[rng.integers(0, len(others))]
            changed[at:] = other[int(rng.integers(0, len(other))) :]
    return bytes(changed)
