"""The documentation site: `make docs` builds it from the pages as they are read in the repository.

The source folder is the root of the repository, so that a page's links mean the same here and there.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "src")]

project = "foveate"
author = "The foveate developers"
copyright = f"{author}, Apache-2.0"
release = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "keys"]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/**.md",
]
exclude_patterns = ["docs/site/**", "benchmarks/**/table.md"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # as far as pages link to headings
myst_links_external_new_tab = False

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"foveate {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["access.js"]
html_extra_path = ["start"]  # index.html at the top, which leads to the first page
html_copy_source = False
html_show_sourcelink = False
