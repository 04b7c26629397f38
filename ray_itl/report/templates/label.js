"use strict";

// Labelling: one row is shown, and every answer is kept. Text goes in as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("rows").textContent);
  const { ids, classes, keys, other, skip, pictures, texts } = data;
  const find = (id) => document.getElementById(id);
  const answers = data.given.slice();
  const past = [];
  const step = 200;
  let current = 0;
  let listed = 0;
  let unsaved = false;
  const store = openStore();

  /** What the browser keeps between visits; null where it may keep nothing, as in some private windows. */
  function openStore() {
    try {
      const name = `ray_itl.${data.key}`;
      localStorage.setItem(`${name}.try`, "");
      localStorage.removeItem(`${name}.try`);
      return {
        read: () => JSON.parse(localStorage.getItem(name) ?? "{}"),
        write: (kept) => localStorage.setItem(name, JSON.stringify(kept)),
      };
    } catch {
      return null;
    }
  }

  function restore() {
    let kept = {};
    try {
      kept = store?.read() ?? {};
    } catch {
      // Damaged: what was given with the page remains.
    }
    const known = new Set([...classes, other, skip, ""]);
    ids.forEach((id, k) => {
      if (Object.hasOwn(kept, id) && known.has(kept[id])) answers[k] = kept[id];
    });
  }

  function keep() {
    unsaved = true;
    try {
      store?.write(Object.fromEntries(ids.map((id, k) => [id, answers[k]]).filter(([, answer], k) => answer !== data.given[k])));
      if (store) return;
    } catch {
      // No room is left.
    }
    find("kept").textContent = "This browser keeps nothing: save before you close the page.";
  }

  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) if (value) made.setAttribute(name, value);
    return made;
  }

  function shown(answer) {
    return answer === other ? "none of these" : answer === skip ? "skipped" : answer;
  }

  function nextOpen(from) {
    for (let k = 0; k < ids.length; k += 1) if (!answers[(from + k) % ids.length]) return (from + k) % ids.length;
    return -1;
  }

  function picture(source) {
    if (!source.startsWith("data:image/")) return element("p", "no picture", { class: "missing" });
    const made = element("img", "", { src: source, alt: "picture of the row" });
    made.addEventListener("load", () => made.classList.toggle("tiny", made.naturalWidth < 65));
    return made;
  }

  function show() {
    const answer = answers[current];
    find("number").textContent = `Row ${(current + 1).toLocaleString("en")}, id ${ids[current]}`;
    find("place").textContent = data.places[current];
    find("now").textContent = shown(answer);
    find("pictures").replaceChildren(...pictures.map((column) => picture(column[current])));
    find("texts").replaceChildren(
      ...texts.flatMap((column) => [element("dt", texts.length > 1 ? column.name : ""), element("dd", column.values[current], { dir: "auto" })]),
    );
    for (const button of find("classes").children) button.setAttribute("aria-pressed", String(button.dataset.label === answer));
    const labelled = answers.filter((each) => each && each !== skip).length;
    const skipped = answers.filter((each) => each === skip).length;
    const open = ids.length - labelled - skipped;
    find("bar").max = ids.length;
    find("bar").value = labelled + skipped;
    find("count").textContent = `${labelled.toLocaleString("en")} labelled, ${skipped.toLocaleString("en")} skipped, ${open.toLocaleString("en")} to go`;
    find("undo").disabled = past.length === 0;
    find("open").disabled = open === 0;
    find("save").disabled = labelled + skipped === 0;
    find("save").classList.toggle("ready", open === 0);
    relist();
  }

  function go(to) {
    current = Math.min(Math.max(to, 0), ids.length - 1);
    show();
    if (find("card").getBoundingClientRect().top < 0) find("card").scrollIntoView({ block: "start" });
  }

  function answer(label) {
    past.push([current, answers[current]]);
    answers[current] = label;
    keep();
    const open = nextOpen(current + 1);
    go(open === -1 ? current : open);
  }

  function undo() {
    if (!past.length) return;
    const [row, before] = past.pop();
    answers[row] = before;
    keep();
    go(row);
  }

  const quoted = (text) => (/[",;\t\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function save() {
    const rows = ids.map((id, k) => [id, answers[k]]).filter(([, label]) => label);
    const text = [["id", "label"], ...rows].map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
    const link = element("a", "", { download: data.file, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
  }

  // The list of all rows: made when it is opened, a few hundred at a time.
  function excerpt(k) {
    return texts.map((column) => column.values[k].slice(0, 200)).join(" · ") || data.places[k];
  }

  function listMore() {
    const some = document.createDocumentFragment();
    for (const end = Math.min(listed + step, ids.length); listed < end; listed += 1) {
      const k = listed;
      const button = element("button", "", { type: "button" });
      button.append(element("span", String(k + 1), { class: "soft" }), element("span", ""), element("span", excerpt(k), { class: "soft", dir: "auto" }));
      button.addEventListener("click", () => {
        go(k);
        scrollTo({ top: 0 });
      });
      const item = element("li", "");
      item.append(button);
      some.append(item);
    }
    find("list").append(some);
    find("more").hidden = listed >= ids.length;
    relist();
  }

  function relist() {
    [...find("list").children].forEach((item, k) => {
      item.firstChild.children[1].textContent = shown(answers[k]) || "–";
    });
  }

  const pressed = new Map([["o", other], ["s", skip]]);
  function offer(label, key, kind) {
    const button = element("button", "", { type: "button", class: kind });
    button.append(element("span", shown(label)));
    if (key) button.append(element("kbd", key));
    button.dataset.label = label;
    button.addEventListener("click", () => answer(label));
    find("classes").append(button);
    if (key) pressed.set(key, label);
  }
  classes.forEach((label, k) => offer(label, keys[k], ""));
  offer(other, "o", "none");

  find("undo").addEventListener("click", undo);
  find("skip").addEventListener("click", () => answer(skip));
  find("back").addEventListener("click", () => go(current - 1));
  find("forth").addEventListener("click", () => go(current + 1));
  find("open").addEventListener("click", () => go(Math.max(nextOpen(current + 1), 0)));
  find("save").addEventListener("click", save);
  find("more").addEventListener("click", listMore);
  find("all").addEventListener("toggle", () => {
    if (find("all").open && !listed) listMore();
  });
  addEventListener("keydown", (event) => {
    // A key that is held down labels one row, not all.
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (pressed.has(key)) answer(pressed.get(key));
    else if (key === "u" || key === "backspace") undo();
    else if (key === "arrowleft") go(current - 1);
    else if (key === "arrowright") go(current + 1);
    else return;
    event.preventDefault();
  });
  addEventListener("beforeunload", (event) => {
    if (unsaved && !store) event.preventDefault();
  });

  restore();
  if (!store) find("kept").textContent = "This browser keeps nothing: save before you close the page.";
  go(Math.max(nextOpen(0), 0));
})();
