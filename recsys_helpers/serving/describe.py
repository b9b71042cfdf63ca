"""The OpenAPI description of the service as one page of plain HTML."""

import html
import json

from .ids import whole

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 56rem; margin: 0 auto; padding: 1rem }
pre, table { overflow-x: auto; display: block }
pre { padding: .5rem; border: 1px solid #8886 }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }
h2 { border-top: 1px solid #8886; padding-top: 1rem }
"""


def description_page(schema):
    """The OpenAPI description as one page of plain HTML, which needs no script and no network."""
    text = html.escape
    out = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{text(schema['info']['title'])}: HTTP interface</title><style>{STYLE}</style>",
        f"<h1>{text(schema['info']['title'])}</h1><p>{text(schema['info']['summary'])} ",
        "The same for machines: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            out.append(
                f"<h2><code>{method.upper()} {text(path)}</code></h2><p>{text(about['description'])}</p>"
            )
            rows = [(p["name"], p["schema"], p.get("required", False)) for p in about.get("parameters", [])]
            out.append(_table("Parameters", rows))
            content = about.get("requestBody", {}).get("content", {})
            for media in content.values():
                for one in _alternatives(schema, media["schema"]):
                    needed = one.get("required", [])
                    fields = one.get("properties", {}).items()
                    out.append(_table(f"Body ({one['title']})", [(k, v, k in needed) for k, v in fields]))
                    if "example" in one:
                        out.append(f"<pre>{text(json.dumps(one['example']))}</pre>")
            answers = (f"{code}: {r['description']}" for code, r in about["responses"].items())
            out.append("<p>Answers</p><ul>" + "".join(f"<li>{text(a)}</li>" for a in answers) + "</ul>")
    return "".join(out)


def _alternatives(schema, part):
    """The object schemas behind a reference, or behind a choice of references."""
    if "$ref" in part:
        return _alternatives(schema, schema["components"]["schemas"][part["$ref"].rpartition("/")[2]])
    if "oneOf" in part:
        return [one for choice in part["oneOf"] for one in _alternatives(schema, choice)]
    return [part]


def _table(caption, rows):
    if not rows:
        return ""
    shown = (
        f"<tr><th><code>{html.escape(name)}</code><td>{'required' if needed else 'optional'}"
        f"<td>{html.escape(_limits(kind))}"
        for name, kind, needed in rows
    )
    return f"<p>{caption}</p><table>{''.join(shown)}</table>"


def _limits(kind):
    """The bounds of one value as words."""
    names = {
        "type": "{}", "const": "{!r}", "enum": "one of {}", "pattern": "of the form {}",
        "multipleOf": "in steps of {}", "maxItems": "at most {}", "minProperties": "at least {}",
        "maxProperties": "at most {}", "minLength": "at least {} long", "maxLength": "at most {} long",
        "default": "default {}",
    }  # fmt: skip
    words = [form.format(whole(kind[name])) for name, form in names.items() if name in kind]
    if "minimum" in kind:
        words.insert(1, f"from {whole(kind['minimum'])} to {whole(kind['maximum'])}")
    for inner in (kind.get("items"), *kind.get("patternProperties", {}).values()):
        if inner is not None:
            words.append(f"each {_limits(inner).rstrip('.')}")
    if "anyOf" in kind:
        words.append(" or ".join(_limits(choice).rstrip(".") for choice in kind["anyOf"]))
    return ", ".join(words) + (f". {kind['description']}" if "description" in kind else "")
