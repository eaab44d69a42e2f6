"""A PostgreSQL server of the tests' own: Debian's package, a cluster in a temporary folder, the loopback interface."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

from service.app.launch import free_port

_USER = "postgres"


def find_programs() -> Path | None:
    """The folder of the newest server's programs, where there is one."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).parent if found else None


class Cluster:
    """A running server, and a new database for whoever asks."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not below the tests' own folder: the server refuses to be root, and its user may not enter that.
        self._folder = Path(tempfile.mkdtemp(prefix="consilium-postgres-", dir="/tmp"))
        self._data = self._folder / "data"
        self._password = secrets.token_hex(8)
        self._port = free_port()
        password = self._folder / "password"
        password.write_text(self._password)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_USER)
            for path in (self._folder, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb", "-A", "scram-sha-256", "-U", _USER, "--pwfile", str(password), "-E", "UTF8", "--locale=C",
            "--no-sync",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self._port} -c unix_socket_directories='' -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        """End it as a crash would, without waiting for its clients."""
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"record_{secrets.token_hex(4)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def remove(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder)

    def _url(self, database: str) -> str:
        return f"postgresql://{_USER}:{self._password}@127.0.0.1:{self._port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self._data), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", _USER, "--", *command]
        # The server keeps the standard streams that it is given: pipes would never end.
        none = subprocess.DEVNULL
        done = subprocess.run(command, cwd="/", stdin=none, stdout=none, stderr=none, check=False)
        if done.returncode:
            log = self._folder / "log"
            raise RuntimeError(f"{program} ended with {done.returncode}: {log.read_text() if log.exists() else ''}")
