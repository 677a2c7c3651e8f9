"""A linker for the scripts of the pages: ES modules in, one inline script out.

A page is one file, and its content security policy permits inline scripts only. Modules inside it therefore cannot import
one another: they have no address of their own, and the policy refuses `data:` and `blob:` addresses. So each module becomes a
function that runs once and returns its exports, in the order of the imports; a name that is not exported stays inside.
JSDoc comments, which a page does not need, are left out: they are a fifth of its scripts.

The part of the language that is supported: `import { a, b } from "./file.js";`, and `export` before a `const`, a function
or a class, both at the start of a line. Anything else that starts with `import` or `export`, an import of a name that the
other module does not export, and modules that import one another in a circle are errors.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

IMPORT = re.compile(r'^import \{([\s\w$,]*)\} from "(\.\.?/[^"\n]+)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:const|function|async function|class) ([\w$]+))", re.MULTILINE)
JSDOC = re.compile(r"^[ \t]*/\*\*(?:[^*]|\*(?!/))*\*/[ \t]*\n", re.MULTILINE)
OTHER_STATEMENT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class LinkError(ValueError):
    """Modules that cannot be linked."""


@dataclass(frozen=True)
class Module:
    """A module without its import and export statements: `imports` maps the path of a module to names in it."""

    path: str
    body: str
    imports: dict[str, list[str]]
    exports: list[str]


def link(folder: Path, entry: str) -> str:
    """Return one script that runs the module `entry` of a folder, after all modules that it imports.

    Raises:
        LinkError: A module is missing, cannot be read by this linker, or does not export what another imports.
    """
    modules: dict[str, Module] = {}
    _add(folder, entry, [], modules)
    for module in modules.values():
        for path, names in module.imports.items():
            missing = [name for name in names if name not in modules[path].exports]
            if missing:
                raise LinkError(f"{module.path} imports {', '.join(missing)}, which {path} does not export.")
    return "const __modules = {};\n" + "".join(_as_function(module) for module in modules.values())


def _add(folder: Path, path: str, importers: list[str], modules: dict[str, Module]) -> None:
    """Add a module to `modules`, after those that it imports."""
    if path in importers:
        raise LinkError("Modules import one another in a circle: " + " -> ".join([*importers[importers.index(path) :], path]))
    if path not in modules:
        module = parse(folder, path)
        for other in module.imports:
            _add(folder, other, [*importers, path], modules)
        modules[path] = module


def parse(folder: Path, path: str) -> Module:
    """Return a module of a folder; `path` is relative to the folder, with slashes. Raises `LinkError`, as `link` does."""
    try:
        source = (folder / path).read_text("utf-8")
    except OSError as error:
        raise LinkError(f"{path} is imported and cannot be read: {error.strerror}") from error
    imports: dict[str, list[str]] = {}
    for names, target in IMPORT.findall(source):
        other = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        imports.setdefault(other, []).extend(name for part in names.split(",") if (name := part.strip()))
    body = EXPORT.sub("", IMPORT.sub("", JSDOC.sub("", source)))
    if rest := OTHER_STATEMENT.search(body):
        raise LinkError(f"{path} has a statement that the linker does not support: {rest.group()}")
    return Module(path, body.strip("\n"), imports, EXPORT.findall(source))


def _as_function(module: Module) -> str:
    """Return a module as a function that is called at once."""
    lines = [f'const {{ {", ".join(names)} }} = __modules["{path}"];' for path, names in module.imports.items()]
    lines += [module.body, f"return {{ {', '.join(module.exports)} }};"]
    return f'__modules["{module.path}"] = (() => {{\n' + "\n".join(lines) + "\n})();\n"
