"""How Sphinx builds the site: `make docs`."""

import doctest
import os
import re
from importlib.metadata import version as installed_version
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

# One thread for torch, as in the tests; set before an example loads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "sknoisydim"
author = "the sknoisydim developers"
project_copyright = "the sknoisydim developers"
version = release = installed_version("sknoisydim")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
default_role = "literal"  # names in docstrings have single backticks
templates_path = ["_templates"]
nitpicky = False
smartquotes = False  # docstrings quote values, such as default="auto"

autosummary_generate = True
toc_object_entries = False  # names of constants, too long for that column
autodoc_typehints = "none"  # the docstrings say it in words
autodoc_member_order = "bysource"
# Formulas are MathML, made when the site is built: every browser of today shows it, without a
# script and without a host to be reached. MathJax comes from a CDN, imgmath needs TeX, KaTeX node.
html_math_renderer = "mathml"
numpydoc_show_class_members = False  # the template of a class lists them
numpydoc_xref_param_type = False

# `>>>` and the output are not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    # Only what the site runs: launchers of processes and the demo are scripts beside it.
    "ignore_pattern": r"(?:^|/)(?!plot_)[^/]*\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),  # a data frame; else what a cell prints
    "show_memory": False,
    "write_computation_times": False,  # that page asks a CDN for its table
    "show_signature": False,
    "download_all_examples": False,
    "reset_modules": ("matplotlib",),
    "doc_module": ("sknoisydim",),
    "backreferences_dir": None,
}

html_theme = "pydata_sphinx_theme"
html_title = "sknoisydim"
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
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
    # The code of an example needs the width of the second column.
    "secondary_sidebar_items": {
        "index": [],
        "auto_examples/*": [],
        "*": ["page-toc"],
        "guide/*": ["page-toc"],
        "paper/*": ["page-toc"],
        "api/*": ["page-toc"],
        "api/generated/*": ["page-toc"],
    },
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without pages below them need no column for those.
html_sidebars = {"index": [], "quickstart": [], "switching_from": []}


def mathml(latex, display):
    """Return a formula as MathML."""
    # Names of several letters are upright, which in TeX takes a command.
    latex = re.sub(r"(?<![\\A-Za-z{])KL(?![A-Za-z])|(?<=_\{)lin(?=\})", r"\\mathrm{\g<0>}", latex)
    found = convert(latex, display=display)
    upright = r'<mi mathvariant="normal">(\w)</mi>'
    found = re.sub(
        f"(?:{upright}){{2,}}",
        lambda run: f"<mi>{''.join(re.findall(upright, run[0]))}</mi>",
        found,
    )
    # latex2mathml leaves a bar that has a size (big) as it is.
    found = re.sub(r">\\(?:\||[lr]?Vert)<", ">&#x2016;<", found)
    found = found.replace("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>")  # has space around it
    # TeX leaves a thin space between "log" and a letter, and none before a bracket.
    found = re.sub(
        r"<mi>(log|det|exp)</mi>(?!<mo|</)", r'<mi>\1</mi><mspace width="0.17em"/>', found
    )
    if "\\" in found:
        raise ValueError(f"latex2mathml does not know a command in {latex!r}.")
    return found


def visit_inline(translator, node):
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(translator, node):
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


class Printed(doctest.DocTestRunner):
    """Keeps what each example prints."""

    def report_start(self, out, test, example):
        pass

    def report_success(self, out, test, example, got):
        test.globs.setdefault("printed", {})[example] = got


def show_what_is_printed(app, page, source):
    """Run a page, and show what an example with the flag +ELLIPSIS prints in place of the dots."""
    if "# doctest: +ELLIPSIS" not in source[0]:
        return
    test = doctest.DocTestParser().get_doctest(source[0], {}, page, page, 0)
    flags, said = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, []
    if Printed(optionflags=flags).run(test, out=said.append, clear_globs=False).failed:
        raise ValueError("".join(said))
    lines = source[0].splitlines()
    for example in reversed(test.examples):
        if doctest.ELLIPSIS in example.options:
            start = example.lineno + example.source.count("\n")
            got = test.globs["printed"][example].splitlines()
            lines[start : start + example.want.count("\n")] = [
                " " * example.indent + (line or "<BLANKLINE>") for line in got
            ]
    source[0] = "\n".join(lines)


def drop_what_is_gone(app):
    """Remove pages of names that the API no longer lists: an earlier build has left them.

    All pages are then written anew, since others list them in the sidebar.
    """
    folder = Path(app.srcdir, "api")
    listed = re.findall(r"^   ([\w.]+)$", (folder / "index.rst").read_text("utf-8"), re.MULTILINE)
    for page in folder.glob("generated/*.rst"):
        if page.stem.removeprefix("sknoisydim.") not in listed:
            page.unlink()
            Path(app.outdir, "api", "generated", f"{page.stem}.html").unlink(missing_ok=True)
            app.connect("env-updated", lambda app, env: env.found_docs)


def keep_initials(app, what, name, value, options, lines):
    """Escape the point of an initial: else a line that starts with a name is an item of a list."""
    lines[:] = [re.sub(r"^(\s*[A-Z])\. ", r"\1\\. ", line) for line in lines]


def setup(app):
    app.connect("builder-inited", drop_what_is_gone, priority=100)
    app.connect("autodoc-process-docstring", keep_initials)
    app.connect("source-read", show_what_is_printed)
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
