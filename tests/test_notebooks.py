"""The plain copies that people run: converted, complete, and shown well by JupyterLab."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
import pytest
from conftest import load_script
from IPython.core.inputtransformer2 import TransformerManager
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
RAW = re.compile(r"\{[\w:+-]+\}`|^ *(:::|`{3,}\{)|^\([\w-]+\)=$|\.(ipynb|md)(#[\w-]+)?\)", re.M)


plain = load_script(ROOT / "book" / "_ext" / "plain.py")
CHAPTERS = plain.chapters()


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    assert plain.write(folder) == []
    return folder


def markdown(text, **values):
    return plain.Page("a page", {key: repr(value) for key, value in values.items()}).markdown(text)


# ---- text ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("An error of {glue:text}`e:.2f` stars.", "An error of 0.85 stars."),
        ("From {glue:text}`name`, {glue:text}`n:,d`.", "From ml, 1,200."),
        ("Now {cite:t}`hu2008collaborative` say", r"Now \[Hu et al. \(2008\)\]\(.*/references.html\) say"),
        ("{cite}`koren2009matrix,hu2008collaborative`.", r"\(\[Koren .*, 2009\].*; \[Hu .*, 2008\].*\)\."),
        ("[chapter 4](04_als.ipynb)", r"\[chapter 4\]\(https://.*/book/04_als.html\)"),
        ("[it](notation.md#symbols)", r"\[it\]\(https://.*/book/notation.html#symbols\)"),
        ("[it](paired-bootstrap)", r"\[it\]\(https://.*/book/\d\d_\w+.html#paired-bootstrap\)"),
        ("[it](https://example.org/a.md)", r"\[it\]\(https://example.org/a.md\)"),
        ("(some-place)=\n## A title", "## A title"),
        ("```python\nx = {1}`\n```", "```python\nx = {1}`\n```"),
        (":::{admonition} Mind\n:class: tip\nOne.\n\nTwo.\n:::", "> **Mind**\n>\n> One.\n>\n> Two."),
        ("```{prf:algorithm} ALS\n:label: a\n\n1. Solve.\n```", "> **Algorithm: ALS**\n>\n> 1. Solve."),
        (
            "::::{admonition} Out\n:::{dropdown} Is `k` *one*?\nYes, {glue:text}`n`.\n:::\n::::",
            "> **Out**\n>\n> <details>\n> <summary>Is <code>k</code> <em>one</em>?</summary>\n"
            ">\n> Yes, 1200.\n>\n> </details>",
        ),
    ],
)  # fmt: skip
def test_markup_has_a_plain_form(text, expected):
    told = markdown(text, e=0.8512, name="ml", n=1200)
    assert told == expected or re.fullmatch(expected, told), told


@pytest.mark.parametrize(
    "text, words",
    [
        ("{glue:text}`unknown`", "no output of a cell holds 'unknown'"),
        ("{eq}`normal`", "no plain form"),
        ("```{figure} a.png\n```", "no plain form"),
        (":::{note}\nNo end.", "no end"),
        ("{cite}`nobody1900`", "nobody1900"),
        ("[it](no_such.md)", "no_such.md"),
    ],
)
def test_what_has_no_plain_form_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        markdown(text)


# ---- code ---------------------------------------------------------------------------


def notebook(*cells):
    made = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python"},
            "language_info": {"name": "python"},
        }
    )
    for number, (source, tags, outputs) in enumerate(cells):
        made.cells.append(
            nbformat.v4.new_code_cell(source, metadata={"tags": tags}, outputs=outputs, id=f"c{number}")
        )
    return made


def glued(name, value):
    return nbformat.v4.new_output(
        "display_data", data={plain.GLUED: repr(value)}, metadata={"scrapbook": {"name": name}}
    )


def sources(*cells):
    return [cell.source for cell in plain.plain(notebook(*cells), "a page").cells]


def test_what_hands_numbers_to_the_text_is_gone():
    out = nbformat.v4.new_output("stream", text="1\n")
    told = plain.plain(
        notebook(
            ("import json\nfrom myst_nb import glue\nimport os", [], []),
            ('x = 1\nglue("a", 1)\nfor y in "bc":\n    glue(y, y)\nprint(x)', [], [glued("a", 1), out]),
            ('def put(**values):\n    for key in values:\n        glue(key, values[key])', [], []),
            ("put(\n    c=1,\n)", ["remove-cell"], [glued("c", 1)]),
        ),
        "a page",
    )  # fmt: skip
    assert [cell.source for cell in told.cells] == ["import json\nimport os", "x = 1\nprint(x)"]
    assert told.cells[1].outputs == [out]
    assert [cell.execution_count for cell in told.cells] == [1, 2]
    # JupyterLab writes this name into a notebook that has another, and then takes it for changed.
    assert told.metadata.kernelspec.display_name == "Python 3 (ipykernel)"


def test_a_hidden_cell_stays_where_a_later_one_reads_what_it_makes():
    hidden, shown = ["remove-cell"], []
    assert sources(("a = 1", hidden, []), ("print(a)", shown, [])) == ["a = 1", "print(a)"]
    assert sources(("a = 1", hidden, []), ("a = 2\nprint(a)", shown, [])) == ["a = 2\nprint(a)"]
    assert sources(("a = 1", hidden, []), ("b = a", hidden, []), ("print(b)", shown, []))[:2] == [
        "a = 1",
        "b = a",
    ]
    assert sources(("x.append(1)", hidden, []), ("print(x)", shown, []))[0] == "x.append(1)"
    assert sources(("x[0] = 1", hidden, []), ("print(x)", shown, []))[0] == "x[0] = 1"
    assert sources(("assert 1 + 1 == 2", hidden, []), ("print(1)", shown, [])) == ["print(1)"]


def test_solutions_are_folded_and_figures_have_words():
    chapter = notebook(("1 + 1", ["hide-cell"], []), ("plot()", ["hide-input"], []))
    chapter.cells[1].metadata["mystnb"] = {"figure": {"caption": "Two camps."}, "image": {"alt": "A map."}}
    solution, figure, caption = plain.plain(chapter, "a page").cells
    assert solution.source.startswith("# @title Solution\n")
    assert solution.metadata.cellView == "form"
    assert solution.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
    assert figure.metadata.jupyter == {"source_hidden": True}
    assert caption.source.startswith("*Two camps.*") and "A map." in caption.source


# ---- the copies -----------------------------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_copy_is_plain_whole_and_small(copies, chapter):
    path = copies / chapter.name
    copy, original = nbformat.read(path, as_version=4), nbformat.read(chapter, as_version=4)
    nbformat.validate(copy)
    assert path.stat().st_size < 1e6
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            assert not RAW.search(cell.source), cell.source
        else:
            assert "glue" not in cell.source and "myst_nb" not in cell.source
    kept = {cell.id for cell in copy.cells}
    for cell in original.cells:
        assert cell.id in kept or "remove-cell" in cell.metadata.tags or not cell.source


def test_a_copy_that_its_reader_changed_stays(tmp_path):
    assert plain.write(tmp_path) == []
    mine = tmp_path / CHAPTERS[0].name
    mine.write_text(mine.read_text().replace("import", "import  ", 1))
    changed = mine.read_text()
    assert plain.write(tmp_path) == [mine]
    assert mine.read_text() == changed
    mine.unlink()
    assert plain.write(tmp_path) == [] and mine.exists()


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_colab_installs_what_the_wheel_offers(copies, chapter):
    """The first code cell as Colab runs it, with a pip that only listens. That the chapters run with no
    more than this installs is shown by `make test`, which runs the copies in the wheel's environment."""
    cell = next(c for c in nbformat.read(copies / chapter.name, as_version=4).cells if c.cell_type == "code")

    class Colab:
        __module__ = "google.colab._shell"
        asked = []

        def run_line_magic(self, *line):
            self.asked.append(line)

    shell = Colab()
    code = TransformerManager().transform_cell(cell.source)
    exec(code, {"get_ipython": lambda: shell})
    [(magic, line)] = shell.asked
    wanted = Requirement(line.partition("-q ")[2].strip('"'))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (magic, wanted.name, wanted.extras) == ("pip", project["name"], {"book"})
    assert wanted.url.startswith("git+https://") and "book" in project["optional-dependencies"]
    exec(code, {"get_ipython": lambda: "another shell"})
    assert len(shell.asked) == 1


def test_binder_makes_the_copies_after_its_installation(tmp_path):
    """postBuild in a copy of what Binder clones, with the environment of requirements.txt as `python`."""
    shutil.copytree(ROOT / "book", tmp_path / "book")
    for name in ("_toc.yml", "_config.yml", "postBuild"):
        shutil.copy(ROOT / name, tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "postBuild"], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "notebooks").glob("*.ipynb")) == sorted(
        p.name for p in CHAPTERS
    )
    assert (ROOT / "runtime.txt").read_text().strip() == "python-3.11"
    assert os.access(ROOT / "postBuild", os.X_OK)


# ---- in JupyterLab ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(copies, tmp_path_factory):
    """The address of a JupyterLab on the copies, which shows whole notebooks, not only what is in sight."""
    home = tmp_path_factory.mktemp("lab")
    settings = home / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"windowingMode": "none"}))
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--port=0",
        "--IdentityProvider.token=book",
    ]
    command += [f"--ServerApp.root_dir={copies}", "--LabApp.news_url=None"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    places = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(settings.parents[2]),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(home),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
    }
    log = home / "log"
    with open(log, "w") as out:
        server = subprocess.Popen(command, env=places, stdout=out, stderr=out)
    try:
        until = time.monotonic() + 60
        while not (found := re.search(r"(http://127\.0\.0\.1:\d+)/lab", log.read_text())):
            assert server.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield found[1]
    finally:
        server.terminate()
        server.wait(20)


def holding_every_kind_of_markup():
    """A few chapters in which together each role, directive and tag occurs; JupyterLab is slow to open."""
    kinds = {}
    for path in CHAPTERS:
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        kinds[path] = set(re.findall(r"\{[\w:+-]+\}(?=`)|(?:`{3}|:{3})\{[\w:-]+\}", text))
        kinds[path].update(*(cell.metadata.get("tags", ()) for cell in cells))
    chosen, left = [], set().union(*kinds.values())
    while left:
        chosen.append(max(CHAPTERS, key=lambda path: len(kinds[path] & left)))
        left -= kinds[chosen[-1]]
    return chosen


@pytest.mark.browser
@pytest.mark.parametrize("chapter", holding_every_kind_of_markup(), ids=lambda path: path.stem)
def test_jupyterlab_shows_a_copy_as_it_is_meant(browser, lab, copies, chapter):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{lab}/lab/tree/{chapter.name}?reset&token=book")
    page.wait_for_selector(".jp-MarkdownCell .jp-RenderedMarkdown h1", timeout=60_000)
    page.wait_for_function(
        """() => [...document.querySelectorAll('.jp-MarkdownCell')]
            .every(cell => cell.querySelector('.jp-RenderedMarkdown *'))""",
        timeout=60_000,
    )
    text = page.evaluate(
        """() => [...document.querySelectorAll('.jp-RenderedMarkdown')].map(cell => {
            const copy = cell.cloneNode(true);
            copy.querySelectorAll('pre, code, mjx-container').forEach(part => part.remove());
            return copy.textContent;
        }).join('\\n')"""
    )
    assert len(text) > 2000
    assert not RAW.search(text) and ":::" not in text and "**" not in text, RAW.search(text)
    assert "$" not in text, text[max(text.index("$") - 60, 0) : text.index("$") + 60]
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count()
    errors += page.locator("mjx-merror").count()
    assert errors == 0
    # Answers are folded, and so are solutions and the code of figures.
    cells = nbformat.read(copies / chapter.name, as_version=4).cells
    answers = sum(cell.source.count("<details>") for cell in cells)
    assert page.locator(".jp-RenderedMarkdown details:not([open])").count() == answers
    hidden = sum(cell.metadata.get("jupyter", {}).get("source_hidden", False) for cell in cells)
    assert page.locator(".jp-InputPlaceholder").count() == hidden > 0
    # Mathematics is set.
    if any("$" in cell.source for cell in cells if cell.cell_type == "markdown"):
        assert page.locator("mjx-container").count()
    page.close()
