/** Makes elements: text is always text, never markup, and no style stands in an attribute. */

/**
 * Make an element.
 *
 * @param {string} tag its name, with classes: "p.fine".
 * @param {object} [attributes] by name; `data-…` and `aria-…` as they are written, `on` a click.
 * @param {...(Node|string|null|undefined|false)} children what stands in it; nothing for null.
 */
export function make(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  element.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") element.addEventListener("click", value);
    else if (key === "set") for (const [prop, what] of Object.entries(value)) element.style.setProperty(prop, what);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The element of an id that must be there. */
export const at = (id) => document.getElementById(id);

/** Put new children into an element, unless they say the same as the old ones. */
export function fill(element, ...children) {
  const fresh = make("div", {}, ...children).childNodes;
  const old = element.childNodes;
  // A table that is read out, or text that is being selected, is not torn away for nothing.
  const same = fresh.length === old.length && [...fresh].every((node, place) => node.isEqualNode(old[place]));
  if (!same) element.replaceChildren(...fresh);
}

/** Set the text of an element, if it is another. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

/**
 * Make a table.
 *
 * @param {string} caption what it shows.
 * @param {string[]} heads names of the columns.
 * @param {(string|Node)[][]} rows the first of each names the row.
 */
export function table(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map(([first, ...rest]) =>
    make("tr", {}, make("th", { scope: "row" }, first), ...rest.map((cell) => make("td", {}, cell))),
  );
  return make(
    "div.scroller",
    { tabindex: "0", role: "region", "aria-label": caption },
    make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body)),
  );
}
