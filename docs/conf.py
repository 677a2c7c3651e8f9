"""Settings of the documentation: Sphinx with MyST (Markdown) and the furo theme. `make docs` builds it without a network."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

project = "unrolled"
author = "the unrolled contributors"
copyright = f"2026, {author}"
release = re.findall(r'^__version__ = "(.+)"', (ROOT / "src" / "unrolled" / "__init__.py").read_text("utf-8"), re.MULTILINE)[0]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"unrolled {release}"
html_copy_source = False

myst_heading_anchors = 3

# Docstrings are written with single backticks for code, as in Markdown.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = False  # signatures of the API are generated, and have no source to read
napoleon_numpy_docstring = False
