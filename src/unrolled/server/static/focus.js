// @ts-check
// The keyboard stays where it is: buttons that vanish or are switched off pass the focus on.

/**
 * Switch a button off or on; if it has the focus and is switched off, another element gets it.
 * @param {HTMLButtonElement} button
 * @param {boolean} isDisabled
 * @param {HTMLElement} next
 */
export function setDisabled(button, isDisabled, next) {
  const hadFocus = document.activeElement === button;
  button.disabled = isDisabled;
  if (hadFocus && isDisabled) next.focus();
}

/**
 * Replace what is in an element; if the focus was in it, it is put back, or on the element that `next` returns.
 * @param {HTMLElement} parent
 * @param {Node[]} children
 * @param {() => HTMLElement | null} [next]
 */
export function replaceKeepingFocus(parent, children, next = () => null) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  parent.replaceChildren(...children);
  if (focused instanceof HTMLElement && document.activeElement !== focused) (focused.isConnected ? focused : next())?.focus();
}
