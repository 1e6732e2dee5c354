"""A PostgreSQL server of the tests' own: on loopback, in a temporary directory, as a user that may do nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa

INSTALLED = "/usr/lib/postgresql"
"""Where Debian puts the programs, a directory for each version; they are not on the path."""

USER = "postgres"
"""Who runs the server where root may not: it refuses to."""

PATIENCE = 60.0
"""Seconds to wait for the server; no test is faster or slower for it."""

SETTINGS = "-c fsync=off -c max_connections=50 -c shared_buffers=16MB"
"""Nothing here outlives the machine."""


def find_programs() -> Path | None:
    """The directory with the server's programs; None where they are not installed."""
    found = []
    asked = shutil.which("pg_config")
    if asked is not None:
        found.append(Path(subprocess.run([asked, "--bindir"], capture_output=True, text=True).stdout.strip()))
    found += sorted(Path(INSTALLED).glob("*/bin"), reverse=True)
    # Where only the clients are installed there is a pg_config, too.
    return next((path for path in found if (path / "initdb").exists() and (path / "pg_ctl").exists()), None)


class PostgresServer:
    """A server that can be started and stopped."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._home = Path(tempfile.mkdtemp(prefix="mlserve-postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self._home, USER)
        self._databases = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._run("initdb", "-U", "tests", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = f"-h 127.0.0.1 -p {self._port} -k {self._home} {SETTINGS}"
        self._run("pg_ctl", "-w", "-l", str(self._home / "log"), "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, as a crash would; what was committed stays."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def close(self) -> None:
        """Stop it and remove its files."""
        self.stop()
        shutil.rmtree(self._home)

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        self.execute(f"CREATE DATABASE tests_{self._databases}")
        return self.url(f"tests_{self._databases}")

    def url(self, database: str, user: str = "tests") -> str:
        """The URL of a database."""
        return f"postgresql+psycopg://{user}@127.0.0.1:{self._port}/{database}"

    def execute(self, statement: str) -> None:
        """Run a statement as the owner of all databases."""
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)

    def _run(self, program: str, *arguments: str) -> None:
        as_user: dict[str, Any] = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(self._programs / program), "-D", str(self._home / "data"), *arguments]
        with open(self._home / "said", "w+") as said:
            # Into a file: a pipe would stay open for as long as the server runs.
            done = subprocess.run(
                command, stdout=said, stderr=said, cwd=self._home, timeout=PATIENCE, check=False, **as_user
            )
            said.seek(0)
            assert done.returncode == 0, said.read()
