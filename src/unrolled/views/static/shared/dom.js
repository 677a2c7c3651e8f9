// @ts-check
// Elements of a page. Text that comes from data is put on a page as text nodes only, never as HTML.

/**
 * Return the element of the page's own HTML that has an id.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [Kind] the class of the element, if more than what all elements have is needed
 * @returns {T}
 */
export function byId(id, Kind) {
  const found = document.getElementById(id);
  if (!(found instanceof (Kind ?? HTMLElement))) throw new Error(`The page has no such element: ${id}`);
  return /** @type {T} */ (found);
}

/**
 * Create an HTML element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Partial<HTMLElementTagNameMap[K]>} [properties]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, properties = {}, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}

/**
 * Create an SVG element.
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svgElement(tag, attributes = {}, ...children) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) created.setAttribute(name, String(value));
  created.append(...children);
  return created;
}

/**
 * Return all buttons in an element.
 * @param {ParentNode} parent
 */
export const buttonsIn = (parent) => [...parent.querySelectorAll("button")];
