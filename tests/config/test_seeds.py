"""Seeds of names are the documented hash, in every process."""

import hashlib
import os
import subprocess
import sys

from dr_tfx.config import seeds


def test_the_hash_is_blake2b_of_the_parts_joined_by_the_unit_separator():
    expected = hashlib.blake2b(b"shard\x1f10_left", digest_size=8).digest()
    assert seeds.stable_hash("shard", "10_left") == int.from_bytes(expected, "big")
    assert seeds.stable_hash("fundus", 0, 10) == seeds.stable_hash("fundus", "0", "10")
    assert seeds.stable_hash("a", "b") != seeds.stable_hash("ab")


def test_the_hash_does_not_depend_on_the_process():
    code = "from dr_tfx.config import seeds; print(seeds.stable_hash('a', 1))"
    printed = {
        subprocess.check_output(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, text=True
        )
        for seed in ("1", "2")
    }
    assert printed == {f"{seeds.stable_hash('a', 1)}\n"}
