// @ts-check
// Light and dark: as the reader's system has it, or as a button of the page says.

/**
 * Let a button switch between light and dark.
 * @param {HTMLElement} button
 */
export function setUpTheme(button) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const showLabel = () => { button.ariaLabel = button.title = isDark() ? "Use light colors" : "Use dark colors"; };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showLabel();
  });
  system.addEventListener("change", showLabel);
  showLabel();
}
