// @ts-check
// What a person has typed stays when the page is loaded again: texts too long for the address, until the tab is closed.

const PREFIX = "unrolled-draft-";
const MAX_CHARACTERS = 500_000;

/**
 * Fill a field with what was typed into it before, and remember what is typed from now on.
 * @param {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} field
 * @param {string} name of the field among all
 */
export function keepDraft(field, name) {
  const key = PREFIX + name;
  const before = sessionStorage.getItem(key);
  if (before !== null && (!(field instanceof HTMLSelectElement) || [...field.options].some(({ value }) => value === before))) field.value = before;
  const keep = () => {
    try {
      if (field.value.length <= MAX_CHARACTERS) sessionStorage.setItem(key, field.value);
    } catch { /* there is no room: the text is only not remembered */ }
  };
  for (const event of ["input", "change"]) field.addEventListener(event, keep);
}
