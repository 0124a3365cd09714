"""Sphinx settings; build with `nox -s docs`."""

from importlib.metadata import version as installed_version

project = "Taskstore"
author = "Taskstore contributors"
copyright = author
version = release = installed_version("taskstore")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build", "examples", "explanation/performance-table.md"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"Taskstore {release}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["wide.css"]
pygments_dark_style = "github-dark"
