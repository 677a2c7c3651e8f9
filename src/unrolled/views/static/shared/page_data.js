// @ts-check
// The data of a page: JSON in the element `data`.

/**
 * Return the data of the page. Its type is what the Python code that wrote the page says; nothing checks it here.
 * @returns {any}
 */
export const pageData = () => JSON.parse(document.getElementById("data")?.textContent ?? "{}");
