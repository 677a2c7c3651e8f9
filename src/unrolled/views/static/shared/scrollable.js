// @ts-check
// Boxes that scroll: they can be reached by the keyboard while there is more in them than they show.

/**
 * Let a box be focused, under a name for screen readers, whenever its content is larger than it is.
 * @template {HTMLElement} T
 * @param {T} box
 * @param {string} name
 * @returns {T}
 */
export function scrollable(box, name) {
  const fit = () => {
    const isLarger = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (isLarger) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
    box.role = isLarger ? "group" : null;
    box.ariaLabel = isLarger ? name : null;
  };
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(box);
  return box;
}
