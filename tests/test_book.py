"""The chapters as files: complete, executed, in the book's frame; and a build that notices failures."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import load_script

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
REPOSITORY = "https://github.com/recsys-book/recsys-book"
INSTALL = f"""if "google.colab" in str(get_ipython()):
    %pip install -q "recsys_helpers[book] @ git+{REPOSITORY}\""""


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


def test_the_home_page_has_a_card_for_each_chapter_and_no_other():
    home = (ROOT / "book" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^:link: (\d\d_\w+)$", home, flags=re.M) == [path.stem for path in CHAPTERS]


def test_the_reference_describes_every_module_with_public_names():
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"automodule:: recsys_helpers\.([\w.]+)", page))
    assert all(importlib.import_module(f"recsys_helpers.{name}") for name in told)
    public = {path.stem for path in (ROOT / "recsys_helpers").glob("[a-z]*.py")}
    for room in ("data", "models", "evaluation", "serving"):
        home = importlib.import_module(f"recsys_helpers.{room}")._HOME
        public |= {f"{room}.{module}" for module in home.values()}
    assert public <= told


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
            places = r"/home/|/root/|/tmp/|/Users/|site-packages|[A-Z]:\\\\"
            named = re.search(places, str(output))
            assert not named, f"an output names a folder of one machine: {cell.source}"


# ---- the frame ------------------------------------------------------------------


def test_starts_with_title_objectives_and_the_colab_cell(chapter):
    first = chapter.cells[0].source
    assert first.startswith("# ")
    for part in ("Reading time", "status.md", "## What you will learn", "**Prerequisites.**"):
        assert part in first, part
    assert chapter.cells[1].source == INSTALL


def test_has_every_part_of_the_frame(chapter):
    text = "\n".join(prose(chapter))
    parts = ("## Exercises", "**Recall.**", "**Code.**", "**Open.**", "## Summary", "## Self-test",
             "## Further reading")  # fmt: skip
    places = [text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places), "the parts are in another order"
    assert len(re.findall(r"\{admonition\} Predict before you run", text)) >= 2
    assert "{admonition} Pitfalls" in text
    assert any("hide-cell" in cell.metadata.get("tags", []) for cell in code_cells(chapter)), (
        "no folded solution"
    )


def test_length(chapter):
    lengths = sorted(len(cell.source.splitlines()) for cell in code_cells(chapter))
    assert lengths[-1] <= 25
    assert lengths[len(lengths) // 2] <= 10
    words = sum(
        len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\{[\w:]+\}`[^`]*`|\$[^$]*\$", "", t)))
        for t in prose(chapter)
    )
    assert 900 <= words <= 2_700


def test_every_figure_has_a_name_a_caption_and_words_for_those_who_cannot_see_it(chapter):
    names = []
    for at, cell in enumerate(chapter.cells):
        if not any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            continue
        about = cell.metadata.get("mystnb", {})
        names.append(about.get("figure", {}).get("name"))
        assert names[-1] and about["figure"].get("caption"), cell.source
        assert len(about.get("image", {}).get("alt", "")) > 30, cell.source
        after = next(c.source for c in chapter.cells[at + 1 :] if c.cell_type == "markdown")
        assert "to see" in after, f"the text below does not say what to see: {cell.source}"
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
    assert available <= used, f"computed for the text, but not used there: {available - used}"
    prefix = f"ch{path.stem[:2]}_"
    assert all(name.startswith(prefix) for name in available)


def test_pasted_values_are_plain_numbers(chapter):
    for cell in code_cells(chapter):
        for output in cell.outputs:
            if output.get("metadata", {}).get("scrapbook"):
                assert "np." not in str(output.data), cell.source


ROLES_AND_CODE = re.compile(
    r"```.*?```"  # blocks
    r"|(\{[\w:]+\})?`[^`]*`"  # roles, among them glue, and code
    r"|\$\$.*?\$\$|\$[^$]*\$"  # mathematics
    r"|\]\([^)]*\)|https?://\S+",  # where links lead
    re.DOTALL,
)
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:\s?%)?(?!\w)")


def typed_numbers(text):
    """Numbers that somebody typed though a cell should have computed them.

    A decimal, a percentage, a number with thousands, and a whole number from 100 on that is neither a year
    nor a power of ten count as measured. Free are: what glue inserts, code, mathematics ($0.5$: a worked
    example or a definition), the version of Python, and a sentence that cites its source.
    """
    found = []
    text = re.sub(r"```.*?```|\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    for sentence in re.split(r"(?<=[.!?:])\s+|\n\n", text):
        if "{cite" in sentence:
            continue
        plain = re.sub(r"Python 3\.\d+", " ", ROLES_AND_CODE.sub(" ", sentence))
        for number in (match[0].rstrip(",") for match in NUMBER.finditer(plain)):
            if re.search(r"[.,%]", number):
                found.append(number)
            elif int(number) >= 100 and not 1900 <= int(number) <= 2100 and set(number[1:]) != {"0"}:
                found.append(number)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It misses by 0.873 stars.", ["0.873"]),
        ("The top tenth holds 57 % of them, or 57%.", ["57 %", "57%"]),
        ("There are 100,004 ratings by 671 users.", ["100,004", "671"]),
        ("It misses by {glue:text}`x:.3f` stars, {glue:text}`y` % of all.", []),
        ("In October 2016, ten films, 5 folds and 1000 draws; the 1990s.", []),
        ("With $\\delta = 2.5$ it shrinks, see [here](file-1.5.md), `x = 1.5`, Python 3.11.", []),
        ("So that\n\n$$\n1.5 + p = 2.5 .\n$$\n\nholds.", []),
        ("The prize asked for 10.06 % {cite}`someone2009`. We got 3.2 %.", ["3.2 %"]),
        ("The rating was 4, the damping 3.", []),
    ],
)
def test_rule_for_typed_numbers(text, expected):
    assert typed_numbers(text) == expected


def test_numbers_in_the_text_come_out_of_cells(chapter):
    """A number typed into a sentence would go stale without a sound."""
    typed = {text[:60]: found for text in prose(chapter) if (found := typed_numbers(text))}
    assert not typed, (
        f"these numbers were typed: {typed}. Compute them in a cell and insert them with glue; write the "
        "figures of a worked example as mathematics ($0.5$); cite what others measured."
    )


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
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    flags = re.search(r"jupyter-book build (\. .*?)\s*\\?$", makefile, flags=re.M)[1]
    command = [program, "build", *flags.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


@pytest.fixture
def small_book(tmp_path):
    """The real configuration around a book of one page."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/page\n")
    for folder in ("book/_ext", "book/_static", "recsys_helpers/serving/static"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
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
        (nbformat.v4.new_code_cell("import warnings; warnings.warn('look')"), "stderr was found"),
        (nbformat.v4.new_markdown_cell("{cite}`nobody1900`"), "nobody1900"),
        (nbformat.v4.new_markdown_cell("[nowhere](no_such_page.md)"), "no_such_page"),
        (nbformat.v4.new_markdown_cell("{glue:text}`never_computed`"), "never_computed"),
    ],
    ids=["failing cell", "warning in a cell", "unknown citation", "broken link", "unknown number"],
)
def test_a_fault_fails_the_build(small_book, cell, words):
    done = build(small_book(cell))
    assert done.returncode != 0
    assert words in done.stdout + done.stderr


def test_what_was_executed_ahead_is_not_executed_again(small_book):
    """execute.py runs in the build's folder and fills its cache; what failed there is left to the build."""
    note = "open('runs', 'a').write('x')"
    folder = small_book(nbformat.v4.new_code_cell(note))
    shutil.copy(folder / "book" / "page.ipynb", folder / "book" / "other.ipynb")
    small_book(nbformat.v4.new_code_cell(f"{note}; 1 / 0"))
    parts = "parts:\n- chapters:\n  - file: book/page\n  - file: book/other\n"
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/start\n{parts}")
    (folder / "book" / "start.md").write_text("# Start\n")
    ahead = [sys.executable, folder / "book" / "_ext" / "execute.py"]
    done = subprocess.run(ahead, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and "ZeroDivisionError" in done.stderr, done.stderr
    assert (folder / "book" / "runs").read_text() == "xx"
    built = build(folder)
    assert built.returncode != 0 and "ZeroDivisionError" in built.stdout + built.stderr
    assert (folder / "book" / "runs").read_text() == "xxx", "the sound one ran again, or the other did not"


# ---- outputs on another machine -------------------------------------------------------------


@pytest.mark.parametrize(
    "printed, now, same",
    [
        ("0.256", "0.257", True),
        ("0.256", "0.258", False),
        ("-0.01 in 12", "-0.02 in 12", True),
        ("12 films", "13 films", False),
        ("0.50", "0.5", True),
        ("0.256 stars", "0.256 Stars", False),
        ("1.0", "1.0 2.0", False),
        ("1.25e-10", "1.26e-10", True),
        ("1.25e-10", "1.25e-09", False),
    ],
)
def test_outputs_may_differ_by_one_in_a_last_digit(printed, now, same):
    # One run of nbval a case would take a minute; the comparison is taken from the file it loads.
    Printed = load_script(ROOT / "book" / "conftest.py").Printed
    assert (Printed(printed) == Printed(now)) is same
    assert (Printed(printed) != Printed(now)) is not same


def test_nbval_compares_with_that(tmp_path):
    shutil.copy(ROOT / "book" / "conftest.py", tmp_path)
    for name, printed in ("near", "0.257"), ("far", "0.259"):
        output = nbformat.v4.new_output("stream", name="stdout", text=f"{printed}\n")
        cell = nbformat.v4.new_code_cell("print(0.256)", outputs=[output], execution_count=1)
        nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / f"{name}.ipynb")
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--rootdir=.", "."]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
    assert "1 failed, 1 passed" in done.stdout and "far.ipynb" in done.stdout, done.stdout + done.stderr
