import en from "../lang/en.js";
import zh from "../lang/zh.js";

/** The page's words. Elements say what they show: data-text (content), data-label (name and tooltip). */
const LANGUAGES = { en, zh };
const listeners = new Set();
let current = "en";

export function text(key, values = {}) {
  const words = LANGUAGES[current][key] ?? en[key];
  if (words === undefined) throw new Error(`no text for ${key}`);
  return words.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Words for what the server names in English, where this language has them. */
export const translated = (key, english) => LANGUAGES[current][key] ?? english;

export const language = () => current;

export function localise(root = document) {
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  for (const node of root.querySelectorAll("[data-label]")) label(node, text(node.dataset.label));
}

/** The accessible name, and the same as tooltip with the key that does it. */
export function label(node, words) {
  node.setAttribute("aria-label", words);
  const key = node.dataset.key;
  if (key) node.setAttribute("aria-keyshortcuts", key);
  node.title = key ? `${words} (${key})` : words;
}

export function onLanguage(listener) {
  listeners.add(listener);
}

export function setLanguage(name) {
  current = name in LANGUAGES ? name : "en";
  localStorage.setItem("sam2.language", current);
  document.documentElement.lang = current === "zh" ? "zh-CN" : "en";
  localise();
  for (const listener of listeners) listener(current);
}

export function startText() {
  const kept = localStorage.getItem("sam2.language");
  setLanguage(kept ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en"));
}
