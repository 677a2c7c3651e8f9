"""Atomic writing: the only place of the program that replaces a file.

A file is written beside its place, flushed to the disk, then renamed over the old one, and the folder's entry is flushed
too: at every moment there is either the whole old file or the whole new one. Faults of the disk become `StorageError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from unrolled.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TMP_MARK = ".partial-"
"""Marks a file or folder that is still being written. What a killed process leaves behind carries this in its name."""

_BACKUP_NAME = "old"

_REASON_BY_ERRNO = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EIO: "the disk reports an input/output error",
}


def storage_error(error: OSError, path: Path, action: str) -> StorageError:
    """Turn a fault of the operating system into one sentence with the path, the reason and the free space."""
    reason = _REASON_BY_ERRNO.get(error.errno or 0, error.strerror or str(error))
    message = f"Cannot {action} {path}: {reason}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with contextlib.suppress(OSError):
            message += f" {shutil.disk_usage(_existing_parent(path)).free:,} bytes are free there."
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        message += " Choose another place, for example with --out."
    return StorageError(message)


def make_dir(path: Path) -> None:
    """Make a folder and its parents; a folder that exists already is fine."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path, "make the folder") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, whole or not at all."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=path.name + TMP_MARK, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        fsync_dir(path.parent)
    except OSError as error:
        raise storage_error(error, path, "write") from error


def has_file_locks() -> bool:
    """Return whether this system has the locks that `claim` needs."""
    return fcntl is not None


@contextlib.contextmanager
def file_lock(path: Path, blocking: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs, and yield whether it is ours; `wait` until it is.

    Several may hold it at once if all of them ask for it `shared`. The system lets go of it when a process dies. Where there
    are no such locks everybody is told yes: what is done under one must do no harm if it is done twice.
    """
    if fcntl is None:
        yield True
        return
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a disk on the network that knows no locks
            pass
        yield True


@contextlib.contextmanager
def atomic_dir(path: Path, keep_existing: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on leaving, flush what was put in and rename it to `path`, replacing it.

    With `first_wins`, one that another process put there meanwhile stays. If the block raises, nothing appears at `path` and
    the partial folder is removed.
    """
    try:
        make_dir(path.parent)
        tmp_dir = Path(tempfile.mkdtemp(prefix=path.name + TMP_MARK, dir=path.parent))
    except OSError as error:
        raise storage_error(error, path, "write") from error
    try:
        yield tmp_dir
        for file in tmp_dir.iterdir():
            _fsync_file(file)
        fsync_dir(tmp_dir)
        os.chmod(tmp_dir, 0o777 & ~_umask())
        if not (keep_existing and path.exists()):
            _replace_dir(tmp_dir, path, keep_existing)
        fsync_dir(path.parent)
    except OSError as error:
        raise storage_error(error, path, "write") from error
    finally:
        shutil.rmtree(tmp_dir, ignore_errors=True)


def commit_dir(tmp_dir: Path, path: Path) -> None:
    """Flush a finished folder and rename it to `path`, if nothing stands there; else it stays where it is."""
    try:
        for file in tmp_dir.iterdir():
            if file.is_file():
                _fsync_file(file)
        fsync_dir(tmp_dir)
        os.chmod(tmp_dir, 0o777 & ~_umask())
        if not path.exists():
            _replace_dir(tmp_dir, path, keep_existing=True)
        fsync_dir(path.parent)
    except OSError as error:
        raise storage_error(error, path, "write") from error


def remove_tmp(folder: Path, min_age: float = 0.0) -> None:
    """Remove what killed processes left half-written in `folder` (not below it).

    What had stepped aside for something that never came is put back. Where other processes may be writing at this moment,
    `older_than` seconds spares theirs.
    """
    for path in folder.glob(f"*{TMP_MARK}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < min_age:
                continue
        target = folder / path.name.split(TMP_MARK)[0]
        if (path / _BACKUP_NAME).exists() and not target.exists():
            with contextlib.suppress(OSError):
                os.replace(path / _BACKUP_NAME, target)
                fsync_dir(folder)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def remove_dir(path: Path) -> None:
    """Remove a folder, if it can be; while it is half removed, it has the name of what is still being written."""
    with contextlib.suppress(OSError):
        tmp_dir = Path(tempfile.mkdtemp(prefix=path.name + TMP_MARK, dir=path.parent))
        with contextlib.suppress(OSError):
            os.replace(path, tmp_dir / "gone")
        shutil.rmtree(tmp_dir, ignore_errors=True)


def fsync_dir(folder: Path) -> None:
    """Make renames inside `folder` last; where folders cannot be opened (Windows), the system does so itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_dir(tmp_dir: Path, path: Path, keep_existing: bool) -> None:
    """Rename a folder into place. A non-empty folder cannot be renamed over, so an old one steps aside first.

    If the new one then cannot follow, the old one goes back; after a kill in between, `remove_partials` puts it back.
    """
    if keep_existing or not path.exists():
        try:
            os.replace(tmp_dir, path)
        except OSError:
            if not (keep_existing and path.exists()):
                raise
        return
    backup_dir = Path(tempfile.mkdtemp(prefix=path.name + TMP_MARK, dir=path.parent))
    try:
        os.replace(path, backup_dir / _BACKUP_NAME)
        os.replace(tmp_dir, path)
    except OSError:
        if not path.exists():
            os.replace(backup_dir / _BACKUP_NAME, path)
        raise
    finally:
        if path.exists():
            shutil.rmtree(backup_dir, ignore_errors=True)


def _existing_parent(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
