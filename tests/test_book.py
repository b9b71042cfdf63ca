"""The chapters as files: complete, executed, in the book's frame; and a build that notices failures."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
REPOSITORY = "https://github.com/recsys-book/recsys-book"
INSTALL = f"""if "google.colab" in str(get_ipython()):
    %pip install -q "recsys_helpers @ git+{REPOSITORY}\""""


@pytest.fixture(scope="module", params=CHAPTERS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture(scope="module")
def chapter(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


# ---- the files ----------------------------------------------------------------


def test_there_are_chapters_and_the_contents_list_them_all():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    assert CHAPTERS
    assert {f"book/{path.stem}" for path in CHAPTERS} <= set(listed)
    assert [c for c in listed if re.match(r"book/\d", c)] == [f"book/{path.stem}" for path in CHAPTERS]


def test_valid_small_and_with_cell_ids(chapter, path):
    nbformat.validate(chapter)
    assert (chapter.nbformat, chapter.nbformat_minor) >= (4, 5)
    assert path.stat().st_size < 1_000_000


def test_committed_with_the_outputs_of_one_clean_run(chapter):
    cells = code_cells(chapter)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", f"a cell warns: {cell.source}\n{output.get('text')}"
            assert str(ROOT) not in str(output), f"an output names a folder of one machine: {cell.source}"


# ---- the frame ------------------------------------------------------------------


def test_starts_with_title_objectives_and_the_colab_cell(chapter):
    first = chapter.cells[0].source
    assert first.startswith("# ")
    for part in ("Reading time", "status.md", "## What you will learn", "**Prerequisites.**"):
        assert part in first, part
    assert chapter.cells[1].source == INSTALL


def test_has_every_part_of_the_frame(chapter):
    text = "\n".join(prose(chapter))
    for part in ("## Exercises", "**Recall.**", "**Code.**", "**Open.**", "## Summary", "## Self-test",
                 "## Further reading"):  # fmt: skip
        assert part in text, part
    assert len(re.findall(r"\{admonition\} Predict before you run", text)) >= 2
    assert "{admonition} Pitfalls" in text
    assert any("hide-cell" in cell.metadata.get("tags", []) for cell in code_cells(chapter)), (
        "no folded solution"
    )


def test_length(chapter):
    lengths = sorted(len(cell.source.splitlines()) for cell in code_cells(chapter))
    assert lengths[-1] <= 25
    assert lengths[len(lengths) // 2] <= 8
    words = sum(
        len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\{[\w:]+\}`[^`]*`|\$[^$]*\$", "", t)))
        for t in prose(chapter)
    )
    assert 900 <= words <= 2_700


def test_every_figure_has_a_name_a_caption_and_words_for_those_who_cannot_see_it(chapter):
    names = []
    for cell in code_cells(chapter):
        if not any("image/png" in output.get("data", {}) for output in cell.outputs):
            continue
        about = cell.metadata.get("mystnb", {})
        names.append(about.get("figure", {}).get("name"))
        assert names[-1] and about["figure"].get("caption"), cell.source
        assert len(about.get("image", {}).get("alt", "")) > 30, cell.source
    assert len(names) == len(set(names)) >= 3


def test_no_tone(chapter):
    for text in prose(chapter):
        plain = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|^!\[.*$", "", text, flags=re.S | re.M)
        assert "!" not in plain, plain
        assert not re.search(r"[\U0001F300-\U0001FAFF]", plain), plain
        assert "TODO" not in text


# ---- numbers ----------------------------------------------------------------------


def glued(notebook):
    """Names that cells hand to the text, read from the code."""
    names = set()
    for cell in code_cells(notebook):
        for output in cell.outputs:
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            if name:
                names.add(name)
    return names


def test_every_pasted_number_comes_from_a_cell_of_the_chapter(chapter, path):
    available = glued(chapter)
    used = {name for text in prose(chapter) for name in re.findall(r"\{glue:?\w*\}`([^`:]+)", text)}
    assert used, "the text states no computed number at all"
    assert used <= available, used - available
    prefix = f"ch{path.stem[:2]}_"
    assert all(name.startswith(prefix) for name in available)


def test_pasted_values_are_plain_numbers(chapter):
    for cell in code_cells(chapter):
        for output in cell.outputs:
            if output.get("metadata", {}).get("scrapbook"):
                assert "np." not in str(output.data), cell.source


# A number that a sentence may state without a cell: it defines something or belongs to a source.
DEFINITION = re.compile(
    r"""\$\$.*?\$\$ | \$[^$]*\$ | ```.*?``` | `[^`]*`      # mathematics, code, roles
      | ^\|.*?$                                            # tables of definitions
      | \]\([^)]*\) | https?://\S+                         # links
    """,
    re.S | re.M | re.X,
)


def test_measured_looking_numbers_are_pasted_not_typed(chapter):
    """A decimal or a percentage typed into a sentence would go stale without a sound.

    Allowed where the sentence carries a citation (the number is the source's), in the self-test and the
    exercises (they set their own numbers), and with the word "say" or "if" (an example).
    """
    text = "\n\n".join(prose(chapter))
    text = (
        re.split(r"^## Exercises", text, flags=re.M)[0]
        + "\n\n"
        + "".join(re.findall(r"^## Summary.*?(?=^## )", text, flags=re.S | re.M))
    )
    cited = re.sub(r"\{cite(:t|:p)?\}`[^`]*`", "CITED", text)
    plain = DEFINITION.sub(" ", cited)
    typed = []
    for sentence in re.split(r"(?<=[.:;?])\s+|\n\n|\n(?=- )", plain):
        if "CITED" in sentence or re.search(r"\b([Ss]ay|[Ii]f|[Ss]uppose|version|[Pp]ython)\b", sentence):
            continue
        if re.search(r"\d\.\d|\d ?%|\d,\d{3}", sentence):
            typed.append(sentence.strip())
    assert not typed


# ---- one address ----------------------------------------------------------------------


def test_the_repository_has_one_address():
    for name in ("_config.yml", "CITATION.cff", "book/how_to_use.md", "README.md"):
        text = (ROOT / name).read_text()
        assert REPOSITORY.removeprefix("https://github.com/") in text, name
        others = set(re.findall(r"github\.com/([\w-]+/[\w-]+)", text)) - {"recsys-book/recsys-book"}
        assert not others, name


def test_requirements_have_both_bounds_and_the_lock_holds_them_all():
    lock = (ROOT / "requirements.lock").read_text().lower()
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if not line or line.startswith("-e"):
            continue
        name = re.match(r"[\w.-]+", line)[0]
        assert ">=" in line and "<" in line, line
        assert re.search(rf"^{re.escape(name.lower())}==", lock, re.M), name


# ---- a build that notices -----------------------------------------------------------------


def build(folder):
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", ".", "--path-output", ".", "-n", "-W", "--keep-going"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


@pytest.fixture
def small_book(tmp_path):
    """The real configuration around a book of one page."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/page\n")
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    shutil.copy(ROOT / "book" / "references.bib", tmp_path / "book")

    def write(*cells):
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell("# A page"), *cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        )
        nbformat.write(notebook, tmp_path / "book" / "page.ipynb")
        return tmp_path

    return write


def test_a_sound_page_builds(small_book):
    folder = small_book(nbformat.v4.new_code_cell("print(6 * 7)"))
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "42" in (folder / "_build" / "html" / "book" / "page.html").read_text()


@pytest.mark.parametrize(
    "cell, words",
    [
        (nbformat.v4.new_code_cell("1 / 0"), "ZeroDivisionError"),
        (nbformat.v4.new_markdown_cell("[nowhere](no_such_page.md)"), "no_such_page"),
        (nbformat.v4.new_markdown_cell("{glue:text}`never_computed`"), "never_computed"),
    ],
    ids=["failing cell", "broken link", "unknown number"],
)
def test_a_fault_fails_the_build(small_book, cell, words):
    done = build(small_book(cell))
    assert done.returncode != 0
    assert words in done.stdout + done.stderr
