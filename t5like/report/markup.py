"""HTML that is escaped by construction: text turns into markup through `element` alone."""

import html

# Control characters that HTML may not hold, shown as the replacement sign instead of breaking the page.
_UNPRINTABLE = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"}
_VOID_TAGS = frozenset({"meta"})


class Markup(str):
    """Text that is HTML already; only this file makes it, but for constants."""

    __slots__ = ()


def element(tag: str, *children: str | None, **attributes: str | float | None) -> Markup:
    """Returns `<tag attributes>children</tag>`.

        element("p", "a < b", class_="note")  ->  <p class="note">a &lt; b</p>

    Args:
      tag: name of the element.
      children: what it holds, in order; whatever is not `Markup` is escaped, None is left out.
      attributes: by name, `_` standing for `-` and a last `_` for nothing; None is left out, True stands alone.
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is not None and value is not False:
            name = name.rstrip("_").replace("_", "-")
            parts.append(f" {name}" if value is True else f' {name}="{_escape(str(value))}"')
    parts.append(">")
    if tag in _VOID_TAGS:
        return Markup("".join(parts))
    return Markup("".join([*parts, join(*children), f"</{tag}>"]))


def join(*children: str | None) -> Markup:
    """Returns the children one after the other, escaped unless they are `Markup`; None is left out."""
    return Markup("".join(x if isinstance(x, Markup) else _escape(x) for x in children if x is not None))


def _escape(text: str) -> str:
    # JSON may hold half a surrogate pair, which no encoding can write.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return html.escape(whole.translate(_UNPRINTABLE))
