"""The process of the command line, as the command `unrolled` and as `python -m unrolled`."""

import os
import signal


def main(argv: list[str] | None = None) -> int:
    """Run the command of this process and return its exit code. Ctrl-C ends it at once, with one line, also during imports.

    Training installs its own handlers, which save. Programs that call a command use `unrolled.cli.main`.
    """
    signal.signal(signal.SIGINT, _exit_now)
    from unrolled.cli.main import main as run

    return run(argv)


def _exit_now(signal_number: int, frame: object) -> None:
    """Exit without an exception: one that is raised during the import of torch is lost, or breaks the import."""
    os.write(2, b"\nunrolled: interrupted\n")
    os._exit(128 + signal_number)


if __name__ == "__main__":
    raise SystemExit(main())
