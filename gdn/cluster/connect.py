"""A Dask client: of a running scheduler, or of workers on this machine."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import dask.config
from distributed import Client, LocalCluster, Nanny, Worker
from distributed.comm.addressing import get_address_host, parse_address
from distributed.security import Security

from gdn.environment import install_command
from gdn.errors import GdnError

WAIT_SECONDS = 600.0  # for the first worker of a cluster that is starting
NANNY = "distributed.nanny.pre-spawn-environ"
TRIM = "MALLOC_TRIM_THRESHOLD_"
PLAIN = "GDN_CLUSTER_PLAIN"  # environment variable: 1 allows a scheduler without TLS
# The status pages of Dask show names and settings to any user of the machine.
NO_PAGES: dict[str, list[str]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


class ClusterError(GdnError, RuntimeError):
    """A cluster that is not available or was lost. The message is one line that says what to do."""


@contextlib.contextmanager
def connect(address: str) -> Iterator[Client]:
    """A client of the scheduler at `address`, or of `local:N`: N processes on this machine. Raises
    ClusterError."""
    _quiet()
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set({NANNY: nanny_environment()}))
        if _is_local(address):
            stack.enter_context(dask.config.set(NO_PAGES))
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="gdn-"))
            cluster = stack.enter_context(_local(address, scratch))
            client = stack.enter_context(Client(cluster))
        else:
            check_private(address)
            client = stack.enter_context(_client(address))
        try:
            client.wait_for_workers(1, timeout=WAIT_SECONDS)
        except TimeoutError:
            raise ClusterError(
                f"--cluster {address}: no worker joined in {WAIT_SECONDS:.0f} s; start some "
                "with 'dask worker'"
            ) from None
        yield client


def _is_local(address: str) -> bool:
    """Whether an address asks for workers on this machine: `local`, `local:N`."""
    return "://" not in address and address.partition(":")[0] == "local"


def check_private(address: str) -> None:
    """Raises ClusterError for a scheduler on another machine without TLS, unless GDN_CLUSTER_PLAIN
    is 1: whoever reaches such a scheduler can run programs as its user."""
    if os.environ.get(PLAIN, "0") not in ("", "0"):
        return
    try:
        protocol, host = parse_address(address)[0], get_address_host(address)
    except ValueError as error:
        raise ClusterError(f"--cluster {address}: no address of a scheduler ({error})") from None
    if protocol in ("tls", "wss"):
        return
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost":
        raise ClusterError(
            f"--cluster {address}: anybody on that network can run programs there as you; use "
            f"tls:// (docs/scaling.md) or set {PLAIN}=1"
        )


def _client(address: str) -> Client:
    """A client of a running scheduler. Dask's own configuration names the certificates."""
    try:
        return Client(address, timeout=20)
    except TypeError:  # Dask has no better kind for a client without certificates
        raise ClusterError(
            f"--cluster {address}: Dask's configuration names no certificate for it "
            "(docs/scaling.md)"
        ) from None
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        words = " ".join(str(error).split())[:120]
        raise ClusterError(
            f"--cluster {address}: no scheduler answers there ({words}); start one with "
            "'dask scheduler'"
        ) from None


def _quiet() -> None:
    """Silence Dask's log messages of workers and connections that end; gdn says this in one line.
    The loggers stay silent, because some messages come after the client is closed. They have levels
    of their own."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    for name in ("distributed", "tornado.application", "asyncio", *names):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def nanny_environment() -> dict[str, str]:
    """The environment that Dask's nannies set before they start a worker, without their threshold
    for releasing memory. With that threshold glibc releases and requests the memory of every FFT
    again, and multislice takes twice the CPU time."""
    environment: dict[str, Any] = dict(dask.config.get(NANNY, default={}))
    environment.pop(TRIM, None)
    return {name: str(value) for name, value in environment.items()}


class LocalWorker(Worker):
    """A worker of `local:N`. It prints to the user's terminal until it closes; later output is
    dropped, because Dask prints tracebacks of connections that end then, and of a cluster that is
    closed while it is still starting."""

    async def close(self, *args: Any, **kwargs: Any) -> Any:
        """See `distributed.Worker.close`."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)  # not sys.stderr: logging and multiprocessing have that already
        os.close(nowhere)
        return await super().close(*args, **kwargs)


def _local(address: str, scratch: str) -> LocalCluster:
    """N workers that share this machine's cores, with their own files in `scratch`. Other users of
    the machine reach their ports as well: only who has this run's certificate gets an answer. It
    exists in memory alone."""
    count = address.removeprefix("local").removeprefix(":") or str(os.cpu_count() or 1)
    if not count.isdecimal() or not 1 <= int(count) <= 1024:
        raise ClusterError(
            f"--cluster {address}: give local:N with N from 1 to 1024, or a scheduler's address"
        )
    threads = max(1, (os.cpu_count() or 1) // int(count))
    # No memory limit: gdn looks at what the machine has free, and a nanny that kills a worker only
    # repeats its work.
    return LocalCluster(
        n_workers=int(count),
        threads_per_worker=threads,
        processes=True,
        memory_limit=0,
        dashboard_address="127.0.0.1:0",
        local_directory=scratch,
        security=_certificate(),
        silence_logs=50,
        worker_class=partial(Nanny, worker_class=LocalWorker),
    )


def _certificate() -> Security:
    """A certificate of this run. Raises ClusterError without the library that makes one."""
    try:
        certificate: Security = Security.temporary()
    except ImportError:
        raise ClusterError(
            f"--cluster local needs the package cryptography: {install_command('cluster')}"
        ) from None
    return certificate


def workers_of(client: Client) -> dict[str, dict[str, Any]]:
    """Address -> the scheduler's record of each worker."""
    workers: dict[str, dict[str, Any]] = client.scheduler_info(n_workers=-1)["workers"]
    return workers
