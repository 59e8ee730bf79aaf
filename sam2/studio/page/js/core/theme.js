/** Light, dark, or as the system says. */
const ORDER = ["auto", "light", "dark"];

export const theme = () => localStorage.getItem("sam2.theme") ?? "auto";

export function setTheme(name) {
  localStorage.setItem("sam2.theme", name);
  document.documentElement.dataset.theme = name;
}

export function nextTheme() {
  setTheme(ORDER[(ORDER.indexOf(theme()) + 1) % ORDER.length]);
}
