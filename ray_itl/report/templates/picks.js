// The picks: every row is in the page, a few hundred are shown, and all are searched. Text goes in as text, never as markup.
(() => {
  const step = 200;
  const { columns, note } = JSON.parse(document.getElementById("table").textContent);
  const numPicks = (columns[0].index ?? columns[0].values).length;
  const cell = (column, k) => (column.index ? column.values[column.index[k]] : column.values[k]);
  const written = columns.filter((column) => !column.image);
  const body = document.querySelector("#picks tbody");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const more = document.getElementById("more");
  let haystacks = null;
  let matches = [];
  let count = 0;

  function element(tag, text, attributes) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) if (value) made.setAttribute(key, value);
    return made;
  }

  function picture(source, name) {
    const made = element("td", "", { class: "picture", "data-name": source && name });
    if (source.startsWith("data:image/")) made.append(element("img", "", { src: source, alt: "picture of the row" }));
    return made;
  }

  function addRows() {
    const rows = document.createDocumentFragment();
    for (const k of matches.slice(count, count + step)) {
      const row = document.createElement("tr");
      columns.forEach((column, position) => {
        const text = cell(column, k);
        if (column.image) return row.append(picture(text, column.name));
        // On a phone a row is a card, in which each value stands with its name, the row's own text first.
        const look = { class: column.number ? "number" : column.content && "content", "data-name": text && column.name };
        return row.append(position === 0 ? element("th", text, { ...look, scope: "row" }) : element("td", text, look));
      });
      rows.append(row);
    }
    body.append(rows);
    count = Math.min(count + step, matches.length);
    more.hidden = count >= matches.length;
    const total = matches.length === numPicks ? `${numPicks.toLocaleString("en")}` : `${matches.length.toLocaleString("en")} found`;
    shown.textContent = `${count.toLocaleString("en")} of ${total} shown`;
  }

  function find() {
    const wanted = search.value.trim().toLowerCase();
    if (wanted) haystacks ??= Array.from({ length: numPicks }, (_, k) => written.map((column) => cell(column, k)).join("\n").toLowerCase());
    matches = [];
    for (let k = 0; k < numPicks; k += 1) if (!wanted || haystacks[k].includes(wanted)) matches.push(k);
    count = 0;
    body.replaceChildren();
    addRows();
  }

  const head = document.createElement("tr");
  for (const column of columns) head.append(element("th", column.name, { scope: "col", class: column.number && "number" }));
  document.querySelector("#picks thead").append(head);
  document.getElementById("note").textContent = note;
  more.addEventListener("click", addRows);
  search.addEventListener("input", find);
  find();
})();
