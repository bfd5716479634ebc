"""The whole texts of a row whose cells are shortened, shown by the browser on hover.

The grid is a canvas, without elements to point at; only the height of its rows is known. The texts
are passed as an escaped, hidden text node, and set as a `title`, which renders no markup.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping

_SHOW = """<script>
if (!window.auditlakeHover) {
  window.auditlakeHover = true;
  let source = "", texts = {};
  document.addEventListener("mousemove", (event) => {
    const grid = event.target.closest('[class*="st-key-events-"] [data-testid="stDataFrame"]');
    const scroller = grid && grid.querySelector(".dvn-scroller");
    if (!scroller) return;
    const held = document.querySelector(".whole-texts");
    const given = held ? held.textContent : "{}";
    if (given !== source) { source = given; texts = JSON.parse(given); }
    const y = event.clientY - scroller.getBoundingClientRect().top - HEAD;
    const text = y < 0 ? "" : texts[Math.floor((y + scroller.scrollTop) / ROW)] || "";
    if (grid.title !== text) grid.title = text;
  });
}
</script>"""


def script(*, head: int, row: int) -> str:
    """Return the script that shows the texts; heights are in pixels."""
    return _SHOW.replace("HEAD", str(head)).replace("ROW", str(row))


def hidden(texts: Mapping[int, str]) -> str:
    """Return an element that passes the script these texts of rows of the table of events."""
    escaped = html.escape(json.dumps(texts, ensure_ascii=False))
    return f'<div class="whole-texts" hidden>{escaped}</div>'
