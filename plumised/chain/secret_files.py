"""Files that hold secrets: created or replaced atomically, read only when nobody else can read them."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o077
"""Mode bits that a file of the operator must not have: none for the group, none for others."""

CREDENTIAL = 0o037
"""Mode bits that a systemd credential must not have. Where systemd grants the service access through an ACL, the
ACL's mask shows as the group's read bit (0440, owner root) although no group may read it."""


class SecretFileError(OperatorError):
    """A file that holds a secret cannot be read or created as it is."""

    code = "secret-file"


class SecretFileExposedError(SecretFileError):
    """Somebody else than the service can read or replace a file that holds a secret."""

    code = "secret-file-exposed"


class SecretFileMissingError(SecretFileError):
    """A file that holds a secret does not exist."""

    code = "secret-file-missing"


class SecretFileExistsError(SecretFileError):
    """A file is in the way of the one to be created; it is never overwritten."""

    code = "secret-file-exists"


def read_secret_file(path: Path, *, limit: int, forbidden: int = PRIVATE) -> bytes:
    """Return the whole content of a regular file that is private to this account.

    Ownership and mode are those of the file that is read, not of a path that may change in between. The owner must
    be this account or root; root also accepts the owner of the directory, on whose behalf it then acts.

    Args:
        path: the file.
        limit: bytes; a longer file is refused.
        forbidden: mode bits that the file must not have.

    Raises:
        SecretFileMissingError: there is no such file.
        SecretFileExposedError: others than the owner have access, or the owner is somebody else.
        SecretFileError: it cannot be read, is not a regular file, or is too long.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SecretFileMissingError(f"{path} does not exist", "Create it, or correct the path.") from None
    except OSError as error:
        raise SecretFileError(
            f"{path} cannot be opened: {error.strerror}", "Give the service's account access to it."
        ) from None
    try:
        _check_private(path, os.fstat(descriptor), forbidden)
        content = _read_up_to(descriptor, limit + 1)
    except OSError as error:
        raise SecretFileError(f"{path} cannot be read: {error.strerror}", "Check the disk.") from None
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise SecretFileError(f"{path} is longer than {limit} bytes", "Correct the path: this is another kind of file.")
    return content


def create_secret_file(path: Path, content: bytes) -> None:
    """Create a file with mode 0600 that is either complete and on disk, or not there.

    A missing directory is created with mode 0700, but not its parents. Root gives the file to the owner of the
    directory, so that a keystore made by root in the service's directory is the service's.

    Raises:
        SecretFileExistsError: the path is taken; what is there stays as it is.
        SecretFileError: the directory is missing, not writable, or the disk is full.
    """
    try:
        with ExitStack() as cleanup:
            ensure_private_directory(path.parent)
            os.link(_complete(path, content, cleanup), path)
        _sync_directory(path.parent)
    except FileExistsError:
        raise SecretFileExistsError(
            f"{path} exists and is not overwritten", "Choose another path, or move the file away if it is not needed."
        ) from None
    except OSError as error:
        raise SecretFileError(
            f"{path} cannot be created: {error.strerror}", f"Make {path.parent} a directory that this account can use."
        ) from None


def replace_secret_file(path: Path, content: bytes) -> None:
    """Put a new content in the place of an existing file, with mode 0600 and its owner. The old one stays until then.

    Raises:
        SecretFileError: the directory is not writable, or the disk is full; the file is as before.
    """
    try:
        _put(path, content, path.stat())
    except OSError as error:
        raise SecretFileError(
            f"{path} cannot be replaced: {error.strerror}", f"Make {path.parent} a directory that this account can use."
        ) from None


def put_secret_file(path: Path, content: bytes, *, like: Path | None = None) -> None:
    """Create a file with mode 0600, or put a new content in its place: complete and on disk, or as before.

    Root gives it to the owner of the file that it replaces, or of the file `like` where there is one, else to the
    owner of the directory.

    Raises:
        SecretFileError: the directory is missing, not writable, or the disk is full.
    """
    try:
        model = next((file for file in (path, like) if file is not None and file.exists()), None)
        _put(path, content, model.stat() if model is not None else None)
    except OSError as error:
        raise SecretFileError(
            f"{path} cannot be written: {error.strerror}", f"Make {path.parent} a directory that this account can use."
        ) from None


def _put(path: Path, content: bytes, owner: os.stat_result | None) -> None:
    """Write a file in one step; root gives it to that owner, where one is named."""
    with ExitStack() as cleanup:
        complete = _complete(path, content, cleanup)
        if owner is not None and os.geteuid() == 0:
            os.chown(complete, owner.st_uid, owner.st_gid)
        complete.replace(path)
    _sync_directory(path.parent)


def move_secret_file(source: Path, target: Path) -> None:
    """Put a file in the place of another in the same directory, at once.

    Raises:
        SecretFileError: the directory is not writable; both are as before.
    """
    try:
        source.replace(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise SecretFileError(
            f"{source} cannot be renamed to {target.name}: {error.strerror}",
            f"Make {target.parent} a directory that this account can use.",
        ) from None


def remove_secret_file(path: Path) -> None:
    """Remove a file that may be there.

    Raises:
        SecretFileError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise SecretFileError(
            f"{path} cannot be removed: {error.strerror}", f"Make {path.parent} a directory that this account can use."
        ) from None


def ensure_private_directory(directory: Path) -> None:
    """Create `directory` with mode 0700 for the owner of its parent, unless it exists. OSError where that fails."""
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
        if os.geteuid() == 0:
            parent = directory.parent.stat()
            os.chown(directory, parent.st_uid, parent.st_gid)


def give_to_owner(descriptor: int, directory: Path) -> None:
    """Let the owner of `directory` own the file too, where this process is root; else do nothing."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _complete(path: Path, content: bytes, cleanup: ExitStack) -> Path:
    """Write a file beside `path` with this content, on disk when this returns; `cleanup` removes it."""
    unfinished = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    cleanup.callback(lambda: unfinished.unlink(missing_ok=True))
    with os.fdopen(descriptor, "wb") as file:
        give_to_owner(descriptor, path.parent)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    return unfinished


def _check_private(path: Path, found: os.stat_result, forbidden: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SecretFileError(f"{path} is not a regular file", "Correct the path.")
    if found.st_mode & forbidden:
        raise SecretFileExposedError(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, so others than its owner can use it",
            f"Run: chmod 600 {path}",
        )
    if found.st_uid not in _accepted_owners(path):
        raise SecretFileExposedError(
            f"{path} belongs to user id {found.st_uid}, neither this account ({os.geteuid()}) nor root",
            f"Run: chown {os.geteuid()} {path}",
        )


def _read_up_to(descriptor: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = os.read(descriptor, size - len(content))
        if not part:
            break
        content += part
    return content


def _accepted_owners(path: Path) -> set[int]:
    owners = {0, os.geteuid()}
    if os.geteuid() == 0:
        owners.add(path.parent.stat().st_uid)
    return owners


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
