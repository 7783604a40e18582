"""Object stores on this machine that commands in other processes reach as gs:// and s3://.

Nothing is simulated in the commands: they go through Google's and Amazon's own clients. Google's
asks this machine for credentials as it would ask a virtual machine of Google's, and for objects as
it would ask Google's servers.
"""

import contextlib
import dataclasses
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

BUCKET = "drtfx"
_ACCOUNT = "/computeMetadata/v1/instance/service-accounts/default/"
_ANSWERS = {
    "/": {},
    _ACCOUNT: {"email": "nobody@example.com", "scopes": [], "aliases": ["default"]},
    f"{_ACCOUNT}token": {"access_token": "any", "expires_in": 3600, "token_type": "Bearer"},
}


class _Credentials(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = _ANSWERS.get(self.path.split("?")[0])
        content = json.dumps(answer).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Store:
    """A running store."""

    environment: dict[str, str]  # For a command that is to use it.
    _bucket: object

    def upload(self, folder: Path, prefix: str) -> str:
        """Copies a folder's files and returns the gs:// folder."""
        for path in folder.iterdir():
            self._bucket.blob(f"{prefix}/{path.name}").upload_from_filename(path)
        return self.url(prefix)

    def contents(self, prefix: str) -> dict[str, bytes]:
        """Path below the prefix -> bytes."""
        blobs = self._bucket.list_blobs(prefix=f"{prefix}/")
        return {b.name.removeprefix(f"{prefix}/"): b.download_as_bytes() for b in blobs}

    def names(self, prefix: str) -> list[str]:
        """Paths below the prefix."""
        return [b.name.removeprefix(f"{prefix}/") for b in self._bucket.list_blobs(prefix=prefix)]

    def delete(self, name: str) -> None:
        self._bucket.blob(name).delete()

    @staticmethod
    def url(prefix: str) -> str:
        return f"gs://{BUCKET}/{prefix}"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Store]:
    """An empty store; `folder` is an empty one."""
    reason = "needs pip install 'dr_tfx[dataflow,test]'"
    pytest.importorskip("gcsfs", reason=reason)
    server = pytest.importorskip("gcp_storage_emulator.server", reason=reason)
    storage = pytest.importorskip("google.cloud.storage", reason=reason)
    from google.auth.credentials import AnonymousCredentials

    credentials = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Credentials)
    threading.Thread(target=credentials.serve_forever, daemon=True).start()
    metadata = f"127.0.0.1:{credentials.server_port}"
    with server.create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET) as objects:
        url = f"http://127.0.0.1:{objects._api._httpd.server_port}"
        client = storage.Client(
            project="test",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": url},
        )
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GOOGLE_", "CLOUDSDK_"))},
            "STORAGE_EMULATOR_HOST": url,
            "GCE_METADATA_HOST": metadata,
            "GCE_METADATA_IP": metadata,
            "CLOUDSDK_CONFIG": str(folder),  # Else it finds the person's own credentials.
            # gcsfs would ask by gRPC what kind of bucket this is, which the emulator cannot answer.
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
        yield Store(environment, client.bucket(BUCKET))
    credentials.shutdown()
    credentials.server_close()


@contextlib.contextmanager
def amazons() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of an empty bucket, and the environment in which a command reaches it."""
    reason = "needs pip install 'dr_tfx[s3,test]'"
    s3fs = pytest.importorskip("s3fs", reason=reason)
    server = pytest.importorskip("moto.server", reason=reason)
    emulator = server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    emulator.start()
    host, port = emulator.get_host_and_port()
    own = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = {"endpoint_url": own["AWS_ENDPOINT_URL"]}
    store = s3fs.S3FileSystem(key="anybody", secret="any", client_kwargs=client)
    store.mkdir(BUCKET)
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    try:
        yield f"s3://{BUCKET}", {**others, **own}
    finally:
        emulator.stop()
