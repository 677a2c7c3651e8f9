"""Atomic writing and file locks. No other module replaces a file.

A file is written under a temporary name in the same folder, flushed to disk, then renamed over the old one, and the folder is
flushed too: at every moment there is either the complete old file or the complete new one. Disk errors become `StorageError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from unrolled.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

TMP_MARK = ".partial-"
"""Part of the name of files and folders that are not complete; a killed process can leave some behind."""

_BACKUP_NAME = "old"

_REASON_BY_ERRNO = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "it is a link to itself",
    errno.EIO: "the disk reports an input/output error",
}


def storage_error(error: OSError, path: Path, action: str) -> StorageError:
    """Return a `StorageError` for an `OSError`: one sentence with the path, the reason and the free space."""
    reason = _REASON_BY_ERRNO.get(error.errno or 0, error.strerror or str(error))
    message = f"Cannot {action} {path}: {reason}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with contextlib.suppress(OSError):
            message += f" {shutil.disk_usage(_existing_parent(path)).free:,} bytes are free there."
    elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        message += " Choose another folder."
    return StorageError(message)


def make_dir(path: Path) -> None:
    """Make a folder and its parents, if they do not exist."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path, "make the folder") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the file `path` by one with `content`, completely or not at all."""
    try:
        prefix = path.name[:40] + TMP_MARK  # a name of the greatest length has no room for more
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
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
    """Return whether this system has the locks that `file_lock` needs."""
    return fcntl is not None


@contextlib.contextmanager
def file_lock(path: Path, blocking: bool = False, shared: bool = False) -> Iterator[bool]:
    """Hold a lock on the file `path` during the block, and yield whether this process got it.

    The operating system releases the lock when a process dies. On systems without such locks every process gets it, so the
    block must do no harm if two processes run it at once.

    Args:
        path: The lock file; it is created if needed.
        blocking: Wait for the lock.
        shared: Share it with other processes that also ask for a shared lock.
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
        except OSError:  # a network file system without locks
            pass
        yield True


@contextlib.contextmanager
def atomic_dir(path: Path, keep_existing: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder; after the block, flush its files and rename it to `path`.

    An existing folder is replaced; with `keep_existing` it stays, for example one that another process made meanwhile. If the
    block raises, `path` does not change and the temporary folder is removed.
    """
    try:
        make_dir(path.parent)
        tmp_dir = Path(tempfile.mkdtemp(prefix=path.name + TMP_MARK, dir=path.parent))
    except OSError as error:
        raise storage_error(error, path, "write") from error
    try:
        yield tmp_dir
        _commit(tmp_dir, path, keep_existing)
    except OSError as error:
        raise storage_error(error, path, "write") from error
    finally:
        shutil.rmtree(tmp_dir, ignore_errors=True)


def commit_dir(tmp_dir: Path, path: Path) -> None:
    """Flush a complete folder and rename it to `path`; if `path` exists, `tmp_dir` stays."""
    try:
        _commit(tmp_dir, path, keep_existing=True)
    except OSError as error:
        raise storage_error(error, path, "write") from error


def _commit(tmp_dir: Path, path: Path, keep_existing: bool) -> None:
    """Flush the files of `tmp_dir` and rename it to `path`, which stays as it is if `keep_existing` and it exists."""
    for file in tmp_dir.iterdir():
        if file.is_file():
            _fsync_file(file)
    fsync_dir(tmp_dir)
    os.chmod(tmp_dir, 0o777 & ~_umask())
    if not (keep_existing and path.exists()):
        _replace_dir(tmp_dir, path, keep_existing)
    fsync_dir(path.parent)


def remove_tmp(folder: Path, min_age: float = 0.0) -> None:
    """Remove the temporary files that killed processes left in `folder` (not in its subfolders).

    A folder that was moved away to be replaced, and never was, is moved back. `min_age` in seconds protects the files of
    processes that are writing now.
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
    """Remove a folder, if possible. It gets a temporary name first, so that a partly removed one is not taken for complete."""
    with contextlib.suppress(OSError):
        tmp_dir = Path(tempfile.mkdtemp(prefix=path.name + TMP_MARK, dir=path.parent))
        with contextlib.suppress(OSError):
            os.replace(path, tmp_dir / "gone")
        shutil.rmtree(tmp_dir, ignore_errors=True)


def fsync_dir(folder: Path) -> None:
    """Flush the renames in `folder` to disk. Windows cannot open folders, and needs no such flush."""
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
    """Rename `tmp_dir` to `path`. A folder that is not empty cannot be renamed over, so the old one is moved away first.

    If the second rename fails, the old folder is moved back; after a kill between the two, `remove_tmp` moves it back.
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


class TemporaryFolder:
    """A folder that is removed with this object, or at the end of the program."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="unrolled-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
