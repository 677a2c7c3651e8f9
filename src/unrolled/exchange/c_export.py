"""`--to c`: one C99 file, compiled and run here before it is written, where there is a compiler."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from unrolled.exchange.c_source import c_source
from unrolled.exchange.export_job import ExportJob, ExportResult, check_rounding, run_program
from unrolled.runtime.portable import PortableNetwork

OPTIMIZATIONS = ("-O0", "-O3")


def export(job: ExportJob) -> ExportResult:
    """Return the C file of a model, checked. Raises `ExportError` if it computes something else."""
    portable = PortableNetwork(job.model.network, job.weights)
    checks, facts = check_rounding(job, portable)
    source, flash, ram = c_source(portable, job.model.tokenizer, f"{job.title}: {job.description}", job.out.name)
    checks.append(check_c_source(source, ", the same bits"))
    facts |= {"weights": job.weights, "flash_bytes": flash, "ram_bytes": ram}
    return ExportResult({job.out: source.encode()}, checks, facts)


def check_c_source(source: str, result: str = "") -> str:
    """Compile a C file at each of `OPTIMIZATIONS` and replay its test vectors, if there is a compiler; return what was checked.

    Raises `ExportError` if it computes something else. `result` is what the test shows besides what it prints.
    """
    compiler = find_compiler()
    if compiler is None:
        return "not compiled: there is no C compiler here. Compile it with -DTEST to replay its test vectors"
    replies = [run_c_test(compiler, source, optimization) for optimization in OPTIMIZATIONS]
    return f"{Path(compiler).name} {' and '.join(OPTIMIZATIONS)}: {replies[0]}{result}"


def find_compiler() -> str | None:
    """Return the C compiler of this machine: `$CC`, cc, gcc or clang; None if there is none."""
    names = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def run_c_test(compiler: str, source: str, *flags: str) -> str:
    """Compile a C file with -DTEST and run it; return what it says. Raises `ExportError` if either fails."""
    with tempfile.TemporaryDirectory() as folder:
        path, program = Path(folder) / "model.c", Path(folder) / "model"
        path.write_text(source, "utf-8")
        command = [compiler, "-std=c99", *flags, "-DTEST", str(path), "-o", str(program), "-lm"]
        for arguments in (command, [str(program)]):
            output = run_program(arguments, "The C file fails its test", reason_lines=slice(3))
        return output.strip().removeprefix("ok: ")
