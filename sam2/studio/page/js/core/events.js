import { socket } from "./api.js";

const GONE = 4404; // the server knows no such session

/**
 * What the server tells of one session. Connects again after a pause that doubles up to 5 s; `listener` also
 * hears {type: "connected"} each time (whatever was missed must be fetched) and {type: "lost"}.
 */
export class Events {
  #closed = false;
  #pause = 250;
  #timer = 0;

  constructor(session, listener) {
    this.session = session;
    this.listener = listener;
    this.#connect();
  }

  #connect() {
    this.link = socket(`/sessions/${encodeURIComponent(this.session)}/events`);
    this.link.onopen = () => {
      this.#pause = 250;
      this.listener({ type: "connected" });
    };
    this.link.onmessage = (message) => {
      if (!this.#closed) this.listener(JSON.parse(message.data));
    };
    this.link.onclose = ({ code }) => {
      if (this.#closed) return;
      if (code === GONE) return this.listener({ type: "gone" });
      this.listener({ type: "lost" });
      this.#timer = setTimeout(() => this.#connect(), this.#pause);
      this.#pause = Math.min(5000, this.#pause * 2);
    };
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.link.close();
  }
}
