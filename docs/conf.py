"""Sphinx's settings: Markdown pages, a reference from docstrings, pictures made by the build. No network is needed."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from docs import make_pictures, reference  # noqa: E402  (needs the path above)

project = "flowgraph"
author = "flowgraph developers"
copyright = "2026, flowgraph developers"
release = version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "pictures", "pages"]

smartquotes = False  # "..." and "--" are often code

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

(HERE / "pages").mkdir(exist_ok=True)
html_extra_path = ["pages"]  # made by the build as well: pages of graphs to move in
html_theme = "furo"
html_title = f"flowgraph {release}"
html_copy_source = False
html_show_sphinx = False


def setup(app):  # type: ignore[no-untyped-def]
    """Make the pictures before the pages are read; tell Sphinx how our docstrings and reference pages are written."""
    app.connect("builder-inited", lambda _: make_pictures.make_all(HERE / "pictures"))
    app.connect("builder-inited", lambda _: make_pictures.make_all(HERE / "pages", make_pictures.PAGES))
    app.connect("source-read", reference.expand_public)
    app.connect("autodoc-process-docstring", reference.process_docstring)
