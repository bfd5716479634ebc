// The list in a menu of filters. Data: the heads of its columns, rows of [events, shown text, value
// where that differs], the ticked values, and the number of the last pick that they include.
const counts = new Intl.NumberFormat();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".value-list");
  const body = root.querySelector(".values");
  const known = (root.known ??= { rows: "", order: "", pick: data.answered });

  const rows = JSON.stringify(data.rows);
  if (rows !== known.rows) {
    known.rows = rows;
    known.lines = data.rows.map(line);
    known.names = data.heads;
    arrange();
  }
  // The answer to an older pick does not know of the picks since.
  if (data.answered >= known.pick) tick(new Set(data.ticked));

  root.querySelectorAll(".heads button").forEach((head, column) => {
    head.onclick = () => sort(column);
  });
  body.onchange = () => {
    known.pick += 1;
    const picked = known.lines.filter((each) => each.box.checked).map((each) => each.value);
    setTriggerValue("picked", { values: picked, number: known.pick });
  };
  body.onkeydown = (event) => {
    const shown = [...body.querySelectorAll("input")];
    const at = shown.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    focusable(shown[Math.max(0, Math.min(to, shown.length - 1))]).focus();
  };
  body.onfocusin = (event) => focusable(event.target);

  function line([events, text, value = text], place) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", tabIndex: -1, value });
    const name = document.createElement("span");
    const count = document.createElement("span");
    name.textContent = name.title = text;
    count.textContent = counts.format(events);
    label.append(box, name, count);
    return { label, box, text, value, events, place };
  }

  function tick(ticked) {
    for (const { box, value } of known.lines) {
      if (box.checked !== ticked.has(value)) box.checked = !box.checked;
    }
  }

  // The next click on the same head turns the order round, the one after it restores the first.
  function sort(column) {
    const orders = [`${column}up`, `${column}down`, ""];
    known.order = orders[(orders.indexOf(known.order) + 1) % orders.length];
    arrange();
  }

  function arrange() {
    const [column, turned] = [known.order[0], known.order.endsWith("down") ? -1 : 1];
    const compare = {
      0: (a, b) => turned * a.text.localeCompare(b.text),
      1: (a, b) => turned * (a.events - b.events),
    }[column];
    const sorted = [...known.lines].sort(compare ?? ((a, b) => a.place - b.place));
    const focused = body.contains(document.activeElement) && known.stop.value;
    body.setAttribute("aria-label", known.names[0]);
    body.replaceChildren(...sorted.map((each) => each.label));
    if (sorted.length) focusable(sorted[0].box);
    const kept = sorted.find((each) => each.value === focused);
    if (kept) focusable(kept.box).focus({ preventScroll: true });
    root.querySelectorAll(".heads button").forEach((head, place) => {
      const arrow = String(place) === column ? (turned > 0 ? " ↑" : " ↓") : "";
      head.textContent = known.names[place] + arrow;
      head.title = `Sort by ${known.names[place]}`;
    });
  }

  // One stop of the Tab key for the whole list: arrows move within it.
  function focusable(box) {
    if (known.stop) known.stop.tabIndex = -1;
    known.stop = box;
    box.tabIndex = 0;
    return box;
  }
}
