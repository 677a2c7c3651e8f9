// @ts-check
// The settings of the page in its address: "#write?temperature=0.5". Fields have them as `data-setting`; defaults are left out.

/** @typedef {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} Field */

/** Characters of a setting in the address at most: longer texts would make an address that no program accepts. */
const MAX_CHARACTERS = 2000;

/** @param {Field} field */
const valueOf = (field) => (field instanceof HTMLInputElement && field.type === "checkbox" ? (field.checked ? "1" : "0") : field.value);

/**
 * @param {Field} field
 * @param {string} value
 */
function setValue(field, value) {
  if (field instanceof HTMLInputElement && field.type === "checkbox") field.checked = value === "1";
  else if (!(field instanceof HTMLSelectElement) || [...field.options].some((option) => option.value === value)) field.value = value;
}

/**
 * Return the settings of all fields of the page.
 * @param {string[]} tabs the first one is the default
 */
export function createSettings(tabs) {
  const fields = new Map([...document.querySelectorAll("[data-setting]")].map((found) => {
    const field = /** @type {Field} */ (found);
    return [field.dataset.setting ?? "", field];
  }));
  const defaults = new Map([...fields].map(([name, field]) => [name, valueOf(field)]));
  /** Values that no field can have yet, as a model before the list of models is here. @type {Map<string, string>} */
  const wanted = new Map();
  let tab = tabs[0];

  function read() {
    const [name, query] = [location.hash.slice(1).split("?")[0], location.hash.split("?").slice(1).join("?")];
    tab = tabs.includes(name) ? name : tabs[0];
    const given = new URLSearchParams(query);
    for (const [setting, field] of fields) {
      const value = given.get(setting) ?? defaults.get(setting) ?? "";
      setValue(field, value);
      if (given.has(setting)) wanted.set(setting, value);
    }
  }

  function write() {
    const query = new URLSearchParams();
    for (const [setting, field] of fields) {
      const value = valueOf(field);
      if (value !== defaults.get(setting) && value.length <= MAX_CHARACTERS) query.set(setting, value);
    }
    const text = query.toString();
    history.replaceState(null, "", `#${tab}${text ? `?${text}` : ""}`);
  }

  document.addEventListener("change", write);
  return {
    read,
    write,
    /** The tab that the address names. */
    tab: () => tab,
    /** @param {string} name */
    setTab(name) {
      tab = name;
      write();
    },
    /** Return the value that the address asked for. @param {string} setting */
    wanted: (setting) => wanted.get(setting),
  };
}
