"""Plain copies of the chapters, for JupyterLab, Binder, VS Code and Colab.

The chapters are written in MyST, which the book's build understands and those programs do not. A copy
has the same cells and outputs, with the numbers filled in from the outputs, and directives and roles
turned into Markdown and HTML. What it cannot turn, it refuses: a raw mark never reaches a reader.

    python book/_ext/plain.py notebooks     writes the copies of all chapters to the folder notebooks

As a Sphinx extension (see _config.yml) it leads the buttons of each chapter to these copies.
"""

import ast
import hashlib
import json
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
import pybtex.database
import yaml
from myst_nb.core.variables import format_plain_text
from pybtex.plugin import find_plugin

ROOT = Path(__file__).resolve().parents[2]
BRANCH = "notebooks"  # where the publish workflow puts the copies, for Colab
RECORD = ".made.json"  # in the folder of copies: what was written there
GLUED = "application/papermill.record/text/plain"

FENCE = re.compile(r"^(?P<fence>`{3,}|:{3,})(?P<rest>.*)$")
DIRECTIVE = re.compile(r"^\{(?P<name>[\w:-]+)\}\s*(?P<title>.*)$")
OPTION = re.compile(r"^:[\w-]+:")
TARGET = re.compile(r"^\((?P<label>[\w-]+)\)=$")
ROLE = re.compile(r"\{(?P<name>[\w:+-]+)\}`(?P<text>[^`]+)`")
CHANGES = {"add", "append", "extend", "fit", "set", "update"}  # methods that change their object
LINK = re.compile(r"(?<!!)\]\((?P<to>[^)\s]+)\)")


# ---- the book -------------------------------------------------------------------------


def chapters():
    """The notebooks of the book, in its order."""
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text()).get("parts", ())
    files = [ROOT / f"{chapter['file']}.ipynb" for part in parts for chapter in part["chapters"]]
    return [path for path in files if path.exists()]


@cache
def site():
    """Where the publish workflow puts the pages."""
    owner, name = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"].split("/")[-2:]
    return f"https://{owner}.github.io/{name}/book"


@cache
def labels():
    """The page of each ``(label)=``."""
    found = {}
    for path in [*chapters(), *(ROOT / "book").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = nbformat.reads(text, as_version=4).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for line in text.splitlines():
            if match := TARGET.match(line):
                found[match["label"]] = path.stem
    return found


@cache
def bibliography():
    return pybtex.database.parse_file(str(ROOT / "book" / "references.bib"))


# ---- text ---------------------------------------------------------------------------------


class Page:
    """Turns the Markdown of one chapter; `values` are its glued numbers, `cited` collects its sources."""

    def __init__(self, name, values):
        self.name, self.values, self.cited = name, values, []

    def markdown(self, text):
        return "\n".join(self._lines(text.split("\n")))

    def _lines(self, lines):
        out, at = [], 0
        while at < len(lines):
            line = lines[at]
            opened = FENCE.match(line)
            if opened:
                end = self._end(lines, at, opened["fence"])
                out += self._block(opened["rest"].strip(), lines[at : end + 1])
                at = end + 1
                continue
            if not TARGET.match(line):
                out.append(self._inline(line))
            at += 1
        return out

    def _end(self, lines, start, fence):
        """The line that closes a block: the same sign, at least as often, and nothing else."""
        for at in range(start + 1, len(lines)):
            line = lines[at].strip()
            if line.startswith(fence) and not line.strip(fence[0]):
                return at
        raise ValueError(f"{self.name}: no end of {lines[start]!r}")

    def _block(self, rest, lines):
        directive = DIRECTIVE.match(rest)
        if directive is None:
            return lines  # code in a language
        body = lines[1:-1]
        while body and OPTION.match(body[0]):
            body = body[1:]
        body = self._lines("\n".join(body).strip("\n").split("\n"))
        title = self._inline(directive["title"])
        if directive["name"] == "admonition":
            return _quote([f"**{title}**", "", *body])
        if directive["name"] == "prf:algorithm":
            return _quote([f"**Algorithm: {title}**", "", *body])
        if directive["name"] == "dropdown":
            return ["<details>", f"<summary>{_html(title)}</summary>", "", *body, "", "</details>"]
        raise ValueError(f"{self.name}: the directive {directive['name']!r} has no plain form yet")

    def _inline(self, line):
        return LINK.sub(self._link, ROLE.sub(self._role, line))

    def _role(self, match):
        name, text = match["name"], match["text"]
        if name == "glue:text":
            key, _, form = text.partition(":")
            if key not in self.values:
                raise ValueError(f"{self.name}: no output of a cell holds {key!r}; run the chapter")
            return format_plain_text(self.values[key], form)
        if name in ("cite", "cite:t"):
            keys = [key.strip() for key in text.split(",")]
            self.cited += keys
            told = "; ".join(f"[{_short(key, name == 'cite:t')}]({site()}/references.html)" for key in keys)
            return told if name == "cite:t" else f"({told})"
        if name == "doc" and (named := re.match(r"^(.*) <(.*)>$", text)):
            return f"[{named[1]}]({site()}/{named[2]}.html)"
        raise ValueError(f"{self.name}: the role {match[0]!r} has no plain form yet")

    def _link(self, match):
        to = match["to"]
        path, _, place = to.partition("#")
        if re.match(r"^(https?|mailto):", to) or not path:
            return match[0]
        if to in labels():
            path, place = labels()[to], to
        elif (ROOT / "book" / path).exists() and Path(path).suffix in (".ipynb", ".md"):
            path = Path(path).stem
        else:
            raise ValueError(f"{self.name}: nothing is at the end of the link {to!r}")
        return f"]({site()}/{path}.html{'#' * bool(place)}{place})"

    def works_cited(self):
        """The sources that the chapter names, in full."""
        style = find_plugin("pybtex.style.formatting", "plain")()
        keys = sorted(set(self.cited), key=lambda key: _short(key, True))
        render = find_plugin("pybtex.backends", "markdown")()
        entries = style.format_bibliography(bibliography(), keys)
        told = {entry.key: entry.text.render(render).replace("\n", " ") for entry in entries}
        return "\n".join(["## Works cited", "", *(f"- {told[key]}" for key in keys)])


def _quote(lines):
    return [f"> {line}".rstrip() for line in lines]


def _html(text):
    """Emphasis and code as tags, since Markdown is not read between them; mathematics stays."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)


def _short(key, textual):
    """Harper and Konstan (2015), or with a comma for brackets around it."""
    if key not in bibliography().entries:
        raise ValueError(f"references.bib has no {key!r}")
    entry = bibliography().entries[key]
    people = entry.persons.get("author") or entry.persons["editor"]
    names = [" ".join((*person.prelast_names, *person.last_names)).strip("{}") for person in people]
    told = names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
    return f"{told} ({entry.fields['year']})" if textual else f"{told}, {entry.fields['year']}"


# ---- code -----------------------------------------------------------------------------------


class Code:
    """Takes out of the cells what only hands numbers to the text."""

    def __init__(self):
        self.hands_on = {"glue"}  # and the chapter's own functions that do nothing else

    def without_glue(self, source):
        if not any(name in source for name in self.hands_on):
            return source
        tree, lines = ast.parse(source), source.split("\n")
        gone = set()
        self._only_glue(tree.body, gone)
        return "\n".join(line for number, line in enumerate(lines, 1) if number not in gone).strip("\n")

    def _only_glue(self, body, gone):
        """Note the lines of statements that only glue; whether all do."""
        whole = True
        for statement in body:
            if self._glues(statement, gone):
                gone.update(range(statement.lineno, statement.end_lineno + 1))
            else:
                whole = False
        return whole

    def _glues(self, statement, gone):
        match statement:
            case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
                return name in self.hands_on
            case ast.ImportFrom(module="myst_nb"):
                return True
            case ast.FunctionDef(name=name):
                inside = list(ast.walk(statement))
                named = {node.id for node in inside if isinstance(node, ast.Name)}
                if named & self.hands_on and not any(isinstance(node, ast.Return) for node in inside):
                    self.hands_on.add(name)
                    return True
                return False
            case ast.For(body=body, orelse=[]) | ast.If(body=body, orelse=[]) | ast.With(body=body):
                inside = set()
                if self._only_glue(body, inside):
                    return True
                gone.update(inside)
        return False


def _flow(source):
    """Of a cell: the names that it binds or changes, those among them that it binds for sure, and those
    that it reads from cells before it."""
    made, bound, read = set(), set(), set()
    for statement in ast.parse(source).body:
        loaded = set()
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                (loaded if isinstance(node.ctx, ast.Load) else made).add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                made.add(node.name)
            elif isinstance(node, ast.alias):
                made.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, (ast.Attribute, ast.Subscript)):
                base = node
                while isinstance(base, (ast.Attribute, ast.Subscript)):
                    base = base.value
                stored = not isinstance(node.ctx, ast.Load)
                if isinstance(base, ast.Name) and (stored or getattr(node, "attr", "") in CHANGES):
                    made.add(base.id)
        read |= loaded - bound
        if isinstance(statement, ast.Assign):
            names = [n for target in statement.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
            bound |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return made, bound, read


# ---- a chapter --------------------------------------------------------------------------------


def plain(notebook, name):
    """The plain copy of an executed chapter.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Left as it is.
    name : str
        For messages.
    """
    values = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if GLUED in output.get("data", {}):
                values[output.metadata["scrapbook"]["name"]] = output.data[GLUED]
    page, code = Page(name, values), Code()
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cells.append(nbformat.v4.new_markdown_cell(page.markdown(cell.source), id=cell.id))
        else:
            cells += _code_cell(cell, page, code)
    cells = _needed(cells)
    if page.cited:
        cells.append(nbformat.v4.new_markdown_cell(page.works_cited(), id="works-cited"))
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    metadata = {key: dict(notebook.metadata[key]) for key in ("kernelspec", "language_info")}
    # As JupyterLab calls it, which would take the copy for changed otherwise.
    metadata["kernelspec"]["display_name"] = "Python 3 (ipykernel)"
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _code_cell(cell, page, code):
    tags = set(cell.metadata.get("tags", ()))
    install = cell.source.startswith('if "google.colab"')
    source = cell.source if install else code.without_glue(cell.source)
    if not source:
        return []
    metadata = {"tags": sorted(tags & {"nbval-ignore-output", "remove-cell"})}
    hidden = {}
    if tags & {"hide-input", "hide-cell", "remove-cell"}:
        hidden["source_hidden"] = True
    if "hide-cell" in tags:
        # Colab folds a cell with a title, JupyterLab the input and the output.
        hidden["outputs_hidden"] = True
        metadata["cellView"] = "form"
        source = f"# @title Solution\n{source}"
    if hidden:
        metadata["jupyter"] = hidden
    outputs = [output for output in cell.outputs if GLUED not in output.get("data", {})]
    cells = [nbformat.v4.new_code_cell(source, id=cell.id, metadata=metadata, outputs=outputs)]
    shown = cell.metadata.get("mystnb", {})
    if "figure" in shown:
        lines = [f"*{page.markdown(shown['figure']['caption'])}*", "", "<details>"]
        lines += ["<summary>The figure in words</summary>", "", shown["image"]["alt"], "", "</details>"]
        cells.append(nbformat.v4.new_markdown_cell("\n".join(lines), id=f"{cell.id[:50]}-caption"))
    return cells


def _needed(cells):
    """Without the cells that the pages leave out too, unless a later cell reads what they make."""
    kept, needed = [], set()
    for cell in reversed(cells):
        if cell.cell_type == "code" and not cell.source.startswith('if "google.colab"'):
            made, bound, read = _flow(cell.source)
            if "remove-cell" in cell.metadata.tags:
                if not made & needed:
                    continue
                cell.metadata.tags.remove("remove-cell")
            needed = needed - bound | read
        kept.append(cell)
    for cell in kept:
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
    return kept[::-1]


# ---- the folder of copies ---------------------------------------------------------------------


def write(folder):
    """Copies of all chapters; a copy that its reader has changed stays.

    Returns
    -------
    kept : list of Path
        The changed ones.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD
    made = json.loads(record.read_text()) if record.exists() else {}
    kept = []
    for path in chapters():
        text = nbformat.writes(plain(nbformat.read(path, as_version=4), path.stem)) + "\n"
        copy = folder / path.name
        ours = (made.get(path.name), _digest(text))
        if copy.exists() and _digest(copy.read_text(encoding="utf-8")) not in ours:
            kept.append(copy)
            continue
        copy.write_text(text, encoding="utf-8")
        made[path.name] = _digest(text)
    record.write_text(json.dumps(made, indent=1) + "\n")
    return kept


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


# ---- the pages' buttons -------------------------------------------------------------------------


def _offer_download(app, pagename, templatename, context, doctree):
    """A button for the notebook, on pages that are one; Sphinx puts the file itself behind it."""
    if (Path(app.srcdir) / f"{pagename}.ipynb").exists():
        context["sourcename"] = f"{pagename}.ipynb"


def _write_downloads(app, error):
    """Plain copies in place of the files that Sphinx put there."""
    for path in chapters() if error is None else ():
        copy = Path(app.outdir) / "_sources" / path.relative_to(ROOT)
        if copy.exists():
            nbformat.write(plain(nbformat.read(path, as_version=4), path.stem), copy)


def _launch_copies(app, pagename, templatename, context, doctree):
    """Binder opens the folder of copies that its postBuild makes, Colab their branch."""
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()) if group.get("label") == "launch-buttons" else ():
            url = button["url"].replace("lab/tree/book/", "lab/tree/notebooks/")
            button["url"] = re.sub(r"/blob/[^/]+/book/", f"/blob/{BRANCH}/", url)


def setup(app):
    app.connect("html-page-context", _offer_download, priority=100)
    app.connect("html-page-context", _launch_copies, priority=900)
    app.connect("build-finished", _write_downloads)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    for path in write(sys.argv[1]):
        print(f"kept {path}, which you have changed; move it away to get the new one")
