import { api } from "../core/api.js";
import { byId } from "../core/dom.js";
import { notice, say, tell } from "../core/say.js";
import { onLanguage, text } from "../core/text.js";

/** Propagation: begin, stop, progress; the picture follows the frames as they are computed. */
export class Tracking {
  #follow = false;

  constructor(app) {
    this.app = app;
    for (const direction of ["backward", "both", "forward"]) {
      byId(`track-${direction}`).addEventListener("click", () => this.start(direction));
    }
    byId("track-stop").addEventListener("click", () => this.stop());
    byId("follow").addEventListener("change", (event) => (this.#follow = event.target.checked));
    byId("policy").addEventListener("change", (event) => app.sessions.change({ policy: event.target.value }));
    app.store.on("session info", () => this.#show(), true);
    onLanguage(() => this.#show());
  }

  async start(direction) {
    const { app } = this;
    await app.acts.idle();
    const { session, frame } = app.state;
    if (session?.kind !== "video" || session.job) return;
    if (!session.prompts.length) return notice(text("promptFirst"));
    this.#follow = byId("follow").checked;
    app.player.pause();
    say(text("trackingBegan"));
    try {
      await api.propagate(session.id, frame, direction); // its events tell the rest, and in order
    } catch (error) {
      tell(error);
    }
  }

  async stop() {
    const { session } = this.app.state;
    if (!session?.job) return false;
    await api.cancel(session.id).catch(tell);
    return true;
  }

  progress({ done, total }) {
    const { job } = this.app.state.session;
    if (!job) return;
    Object.assign(job, { done, total });
    this.#show();
  }

  saw(frame) {
    if (this.#follow && this.app.state.session.job) this.app.seek(frame);
  }

  #showPolicies({ info, session }) {
    const names = info?.policies ?? [];
    byId("policy").replaceChildren(...names.map((name) => new Option(text(`policy-${name}`), name)));
    byId("policy").disabled = Boolean(session?.job);
    if (session) byId("policy").value = session.policy;
  }

  #show() {
    const { session } = this.app.state;
    this.#showPolicies(this.app.state);
    const job = session?.job ?? null;
    byId("track-stop").hidden = !job;
    byId("track-progress").hidden = !job;
    byId("track-count").hidden = !job;
    for (const direction of ["backward", "both", "forward"]) byId(`track-${direction}`).disabled = Boolean(job);
    if (!job) return;
    byId("track-progress").max = Math.max(1, job.total);
    byId("track-progress").value = job.done;
    byId("track-count").textContent = `${job.done} / ${job.total}`;
  }
}
