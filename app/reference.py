"""Write docs/rest.md from the API's own description: `python -m app.reference`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.main import create_app
from core.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "rest.md"
METHODS = ("get", "post", "delete")
Schema = Mapping[str, Any]

HEAD = """# REST

Every route, parameter, body and answer; five minutes to find what you need. Made from `/openapi.json` by `python -m app.reference`, and a test keeps it so.
A running server shows the same at `/docs`, where it can be tried.

- The key goes in `Authorization: Bearer <key>`; without any key on the server nothing need be sent from its own machine.
- Bodies are JSON unless said otherwise. An unknown field is 400 with the nearest right name.
- Every error is `{"error": {"message", "type", "param", "code"}}`, by [code](errors.md#refusals-of-requests): 400 the request, 401 no key, 403 not this key, 404 not here or not yours,
  409 contradiction, 413 too large, 429 and 503 later. `x-request-id` names each answer.
- Lists are pages: `limit`, `after` an id; `has_more`, `first_id`, `last_id`.
- `POST` with an `Idempotency-Key` is done [once](openai.md#doing-a-thing-once).
"""  # noqa: E501 - lines as they are in the page


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(create_app(Settings()).openapi()), encoding="utf-8")


def page(description: Schema) -> str:
    """The page of an OpenAPI description."""
    schemas = dict(description["components"]["schemas"])
    routes = [
        (method.upper(), path, methods[method])
        for path, methods in description["paths"].items()
        for method in METHODS
        if method in methods
    ]
    for _, _, route in routes:
        for body in route.get("requestBody", {}).get("content", {}).values():
            schemas |= body["schema"].get("$defs", {})
    return "\n".join([HEAD, *_Page(schemas).parts(routes)]).rstrip() + "\n"


class _Page:
    """Writes routes and objects; `schemas` are all that have a name."""

    def __init__(self, schemas: Mapping[str, Schema]):
        self._schemas = schemas

    def parts(self, routes: Sequence[tuple[str, str, Schema]]) -> Iterator[str]:
        tag = None
        for method, path, route in routes:
            if route["tags"][0] != tag:
                tag = route["tags"][0]
                yield f"## {tag.capitalize()}\n"
            yield from self._route(method, path, route)
        yield "## Objects\n"
        for name in sorted(self._schemas):
            if self._has_section(name):
                yield from self._object(name, self._schemas[name])

    def _route(self, method: str, path: str, route: Schema) -> Iterator[str]:
        yield f"### {method} {path}\n"
        yield f"{_plain(route.get('description', route['summary']))}\n"
        rows = [
            (one["name"], one["in"], one["schema"], one["required"])
            for one in route.get("parameters", ())
        ]
        for media, body in route.get("requestBody", {}).get("content", {}).items():
            schema = self._named(body["schema"])
            where = "form" if "form" in media else "body"
            needed = schema.get("required", [])
            fields = schema.get("properties", {})
            rows += [(name, where, field, name in needed) for name, field in fields.items()]
        if rows:
            yield "| field | in | type | |"
            yield "|---|---|---|---|"
            for name, where, schema, is_required in rows:
                note = _note(schema, is_required)
                yield f"| `{name}` | {where} | {self._type(schema)} | {note} |"
            yield ""
        status, answer = next(iter(route["responses"].items()))
        contents = list(answer.get("content", {}).values())
        schema = contents[0].get("schema", {}) if contents else {}
        yield f"Answer: {', '.join(filter(None, (status, self._type(schema))))}.\n"

    def _object(self, name: str, schema: Schema) -> Iterator[str]:
        yield f"### {name}\n"
        if text := schema.get("description"):
            yield f"{_plain(text)}\n"
        yield "| field | type |"
        yield "|---|---|"
        for field, inner in schema["properties"].items():
            yield f"| `{field}` | {self._type(inner)} |"
        yield ""

    def _named(self, schema: Schema) -> Schema:
        """What a reference stands for."""
        return self._schemas[_name(schema["$ref"])] if "$ref" in schema else schema

    def _has_section(self, name: str) -> bool:
        hidden = re.match(r"Body_|Page_|HTTPValidationError|ValidationError", name)
        return "properties" in self._schemas[name] and not hidden

    def _type(self, schema: Schema) -> str:
        if "$ref" in schema:
            name = _name(schema["$ref"])
            if inner := re.fullmatch(r"Page_(\w+)_", name):
                return f"a page of [{inner[1]}](#{inner[1].lower()})"
            is_linked = self._has_section(name)
            return f"[{name}](#{name.lower()})" if is_linked else self._type(self._schemas[name])
        if "const" in schema:
            return f"`{schema['const']}`"
        if "enum" in schema:
            return ", ".join(f"`{value}`" for value in schema["enum"])
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return " or ".join(dict.fromkeys(self._type(option) for option in options))
        if schema.get("type") == "array":
            return f"array of {self._type(schema.get('items', {}))}"
        return str(schema.get("type", "any JSON" if "title" in schema else ""))


def _note(schema: Schema, is_required: bool) -> str:
    """What else is to be known: whether it is needed, its default, its bounds."""
    notes = ["required"] if is_required else []
    if not is_required and schema.get("default") not in (None, {}, []):
        notes.append(f"default {schema['default']}")
    for option in (schema, *schema.get("anyOf", ())):
        low, high = option.get("minimum"), option.get("maximum")
        if low is not None and high is not None:
            notes.append(f"{low:,} to {high:,}")
        elif longest := option.get("maxLength"):
            notes.append(f"at most {longest:,} characters")
    return ", ".join(notes)


def _plain(text: str) -> str:
    """One paragraph, in which nothing is taken for markup."""
    return " ".join(text.split()).replace("<", "\\<").replace("|", "\\|")


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


if __name__ == "__main__":
    main()
