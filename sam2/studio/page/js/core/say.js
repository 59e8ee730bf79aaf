import { byId, make } from "./dom.js";
import { text } from "./text.js";

/** Words for everyone: a polite live region for screen readers, and notices that fade. */
export function say(words) {
  const region = byId("spoken");
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = words));
}

export function notice(words, kind = "plain") {
  const note = make("div", { class: `notice ${kind}` }, make("span", {}, words));
  const close = make("button", { class: "quiet", type: "button", onclick: () => note.remove() }, "×");
  close.setAttribute("aria-label", text("close"));
  note.append(close);
  byId("notices").append(note);
  while (byId("notices").children.length > 3) byId("notices").firstChild.remove();
  setTimeout(() => note.remove(), kind === "fault" ? 12000 : 5000);
}

/** Shows why something failed; an answer that a newer request replaced is no failure. */
export function tell(error) {
  if (error.superseded || error.name === "AbortError") return;
  notice(error.status === 0 ? text("offline") : error.message, "fault");
}
