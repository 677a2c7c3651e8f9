"""`python -m unrolled` is the command `unrolled`."""

from unrolled.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
