/**
 * The state of the page, in one place. `set` tells those who listen to a key that changed; a key counts as
 * changed when it is named in `set`, so objects may be replaced or changed in place.
 */
export class Store {
  #listeners = new Map();

  constructor(state) {
    this.state = state;
  }

  /** Listens to `keys` (separated by spaces); called once at once when `now`. */
  on(keys, listener, now = false) {
    for (const key of keys.split(" ")) {
      if (!this.#listeners.has(key)) this.#listeners.set(key, new Set());
      this.#listeners.get(key).add(listener);
    }
    if (now) listener(this.state);
  }

  set(changes) {
    Object.assign(this.state, changes);
    const heard = new Set();
    for (const key of Object.keys(changes)) {
      for (const listener of this.#listeners.get(key) ?? []) heard.add(listener);
    }
    for (const listener of heard) listener(this.state);
  }
}

export const initialState = () => ({
  info: null,
  session: null, // the server's description of the medium that is open
  frame: 0,
  object: null, // id of the object that clicks go to; null: the next click begins a new one
  tool: "click",
  brush: 24, // diameter in pixels of the picture
  masksShown: true,
  hoverShown: true,
  choices: null, // {frame, object, masks, chosen} after an ambiguous click
  candidates: null, // {frame, list, done, total} of automatic masks
  marks: { timeline: new Map(), disagreement: [], lookNext: [] },
  playing: false,
  rate: 1,
  folder: null, // {path, entries}: neighbours of the medium that is open
  live: false,
  connected: true,
  waiting: 0, // requests for a mask that are under way
});
