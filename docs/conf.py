"""How Sphinx builds the site: `make docs`."""

import os
from importlib.metadata import version as installed_version

# One thread for torch, as in the tests; set before an example loads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "sknoisydim"
author = "the sknoisydim developers"
project_copyright = "the sknoisydim developers"
version = release = installed_version("sknoisydim")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = False

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say it in words
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the template of a class lists them
numpydoc_xref_param_type = False

# `>>>` and the output are not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"demo\.py",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": (),  # what a cell prints is shown, not what it returns
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "reset_modules": ("matplotlib",),
    "doc_module": ("sknoisydim",),
    "backreferences_dir": None,
}

html_theme = "pydata_sphinx_theme"
html_title = "sknoisydim"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without pages below them need no column for those.
html_sidebars = {"index": [], "quickstart": [], "coming_from": []}
