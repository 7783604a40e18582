"""Hundreds of damaged bundles and data sets; tens of thousands are run by hand."""

import sys

from tests.helpers import ready


def test_damaged_and_hostile_bundles_and_data_sets_are_read_or_refused():
    """In a process of their own: a crash of native code fails this test and not the run."""
    code = (
        "from tests.fuzz import fuzz_bundles, fuzz_data_sets\n"
        "fuzz_bundles.main(1, 200)\n"
        "fuzz_data_sets.main(1, 200)\n"
    )
    done = ready.run([sys.executable, "-c", code])
    said = done.stdout
    assert done.returncode == 0, done.stderr[-9000:]
    for file in ("bundle.json", "dataset.json", "weights.safetensors"):
        for outcome in ("damaged refused", "mutated refused"):
            assert f"{file} {outcome}" in said
    for file in ("bundle.json", "dataset.json", "model.keras"):
        assert f"{file} mutated loaded" in said
    for kind in ("shard damaged", "shard of another length", "record changed", "manifest mutated"):
        assert f"{kind} refused" in said
    for kind in ("record changed", "manifest mutated", "identities damaged"):
        assert f"{kind} read" in said
