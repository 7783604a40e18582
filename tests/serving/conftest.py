"""A small export, and a server that has it and asks for a key."""

import pytest

from tests.helpers import exports, served

KEY = "a key of the tests"


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """The folder of an export, not to be changed."""
    return exports.write(tmp_path_factory.mktemp("export"), gate="reject")


@pytest.fixture(scope="session")
def server(export):
    pytest.importorskip("fastapi")
    flags = ["--max_megabytes=1", "--max_megapixels=1", "--max_photographs=40", "--queue=400"]
    running = served.Server(f"--model={export}", *flags, key=KEY)
    yield running
    code, said = running.stop()
    assert code == 0 and said.splitlines()[-1] == "stopping: what was begun is finished", said
