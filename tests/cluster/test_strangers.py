"""Who reaches a cluster: nobody but this run's own processes, and those with a certificate."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.helpers.cluster import OPTIONS, Cluster, certificate_files, picture_file
from tests.helpers.commands import gdn, one_line
from tests.helpers.needs import needs_cluster

pytestmark = [
    needs_cluster,
    pytest.mark.cluster,
    # Dask leaves sockets and files to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
    ),
]

STRANGER = """
import asyncio, sys
from distributed.core import rpc
async def knock(address):
    try:
        async with rpc(address) as peer:
            await asyncio.wait_for(peer.identity(), 5)
    except (OSError, TypeError, TimeoutError):
        return
    print("answered", address)
for port in sys.argv[1:]:
    for protocol in ("tcp", "tls"):
        asyncio.run(knock(f"{protocol}://127.0.0.1:{port}"))
"""


def test_no_port_of_a_local_cluster_answers_another_user() -> None:
    from gdn.cluster.connect import connect

    with connect("local:1") as client:
        here = psutil.Process()
        ports = {
            str(connection.laddr.port)
            for process in (here, *here.children(recursive=True))
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert len(ports) >= 3  # of scheduler, nanny and worker
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, *ports], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        page = client.cluster.dashboard_link.replace("status", "info/main/workers.html")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(page)
        (folder,) = client.run(lambda dask_worker: dask_worker.local_directory).values()
        (own,) = (parent for parent in Path(folder).parents if parent.name.startswith("gdn-"))
        assert own.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("address", ["tcp://head:8786", "head:8786", "tcp://192.0.2.7:8786"])
def test_a_scheduler_of_another_machine_needs_tls(
    frame_file: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gdn.cluster.connect import check_private

    refused = gdn("denoise", frame_file, "--cluster", address)
    one_line(refused, 2, "use tls://")
    assert "GDN_CLUSTER_PLAIN=1" in refused.stderr
    monkeypatch.setenv("GDN_CLUSTER_PLAIN", "1")
    check_private(address)  # told so


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://[::1]:8786", "localhost:8786", "tls://head:8786"]
)
def test_this_machine_and_tls_need_no_word(address: str) -> None:
    from gdn.cluster.connect import check_private

    check_private(address)


def test_a_lab_scheduler_with_certificates(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate_files(tmp_path)
    picture_file(tmp_path / "in" / "f0.tif")
    cluster.address = cluster.address.replace("tcp", "tls")
    without = gdn(
        "denoise", "in", "-o", "out", "--cluster", "tls://127.0.0.1:9", *OPTIONS, cwd=tmp_path
    )
    one_line(without, 2, "names no certificate")
    settings = {"CA_FILE": "cert.pem"}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        settings |= {f"{role}__CERT": "cert.pem", f"{role}__KEY": "key.pem"}
    for name, value in settings.items():
        monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{name}", str(tmp_path / value))
    cluster.scheduler("--protocol", "tls")
    cluster.worker("w0")
    words = ("denoise", "in", "-o", "out", "--cluster", cluster.address, *OPTIONS)
    done = subprocess.run(
        [sys.executable, "-m", "gdn", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "f0_denoised.tif").is_file()
