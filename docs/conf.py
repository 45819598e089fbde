"""The configuration of the documentation site: `sphinx-build -W docs site`."""

project = "seed_oauth"
copyright = "the seed_oauth contributors"  # noqa: A001 - the name that Sphinx reads
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["examples"]

# Links to headings are checked; the anchors are those that GitHub makes.
myst_heading_anchors = 4

# Docstrings write inline code as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
add_module_names = False

# Pygments does not know the colons in the names of recording rules.
suppress_warnings = ["misc.highlighting_failure"]

# Where the site is published. Alerts link to the runbooks there: after a change, `UPDATE_DOCS=1 pytest tests/docs`.
html_baseurl = "https://seed-oauth.example/"

html_theme = "furo"
html_title = "seed_oauth"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {"footer_icons": []}
