"""Seeds and hashes that are made of names, the same in every process and on every machine."""

import hashlib


def stable_hash(*parts: object) -> int:
    """Return a 64-bit integer of the parts' text.

    Unlike `hash()`, it does not depend on the process. It is BLAKE2b of the parts, joined by the
    unit separator.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
