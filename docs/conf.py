"""The documentation as a small site: `make site` writes it to build/site; CI builds it with every
warning an error."""

project = "gdn"
copyright = "the gdn authors"  # noqa: A001 - Sphinx's name
extensions = ["myst_parser"]
exclude_patterns = ["results/**"]
html_theme = "furo"
html_title = "gdn"
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
