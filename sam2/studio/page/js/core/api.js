/** The server's REST interface; every failure is an ApiError whose message can be shown. */

export class ApiError extends Error {
  constructor(status, detail, body) {
    super(detail);
    this.status = status;
    this.superseded = Boolean(body?.superseded ?? body?.detail?.superseded);
  }
}

function messageOf(body, response) {
  if (typeof body?.detail === "string") return body.detail;
  if (Array.isArray(body?.detail)) return body.detail.map((part) => part.msg).join("; ");
  return `${response.status} ${response.statusText}`;
}

const TAB = crypto.randomUUID?.() ?? String(Math.random()); // newer edits take the place of this tab's own only

async function request(method, path, body, options = {}) {
  const headers = { "X-Tab": TAB };
  if (body !== undefined && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`/api${path}`, { method, headers, body, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "offline");
  }
  const text = await response.text();
  const answer = text ? JSON.parse(text) : null;
  if (!response.ok) throw new ApiError(response.status, messageOf(answer, response), answer);
  return answer;
}

const get = (path, options) => request("GET", path, undefined, options);
const post = (path, body = {}) => request("POST", path, body);
const at = (session, rest = "") => `/sessions/${encodeURIComponent(session)}${rest}`;

export const api = {
  info: () => get("/info"),
  browse: (path) => get(`/browse?path=${encodeURIComponent(path)}`),
  openSession: (path, model) => post("/sessions", model ? { path, model } : { path }),
  session: (id) => get(at(id)),
  changeSession: (id, change) => request("PATCH", at(id), change),
  addObject: (id, object = {}) => post(at(id, "/objects"), object),
  changeObject: (id, object, change) => request("PATCH", at(id, `/objects/${object}`), change),
  removeObject: (id, object) => request("DELETE", at(id, `/objects/${object}`)),
  prompt: (id, frame, object, prompt) => request("PUT", at(id, `/prompts/${frame}/${object}`), prompt),
  clearPrompt: (id, frame, object) => request("DELETE", at(id, `/prompts/${frame}/${object}`)),
  preview: (id, frame, points, options) =>
    request("POST", at(id, "/preview"), { frame, points }, options),
  embed: (id, frame) => post(at(id, "/embed"), { frame }),
  masks: (id, first, last) => get(at(id, `/masks?first=${first}&last=${last}`)),
  undo: (id) => post(at(id, "/undo")),
  redo: (id) => post(at(id, "/redo")),
  propagate: (id, start, direction) => post(at(id, "/propagate"), { start, direction }),
  cancel: (id) => post(at(id, "/cancel")),
  auto: (id, frame) => post(at(id, "/auto"), { frame }),
  candidates: (id) => get(at(id, "/auto")),
  stopAuto: (id) => request("DELETE", at(id, "/auto")),
  marks: (id) => get(at(id, "/marks")),
  startExport: (id, format, options) => post(at(id, "/exports"), { format, options }),
  exportState: (id) => get(`/exports/${id}`),
  cancelExport: (id) => request("DELETE", `/exports/${id}`),
};

export const frameUrl = (id, frame, width) => `/api${at(id, `/frames/${frame}.jpg?width=${width}`)}`;
export const thumbUrl = (id, frame) => `/api${at(id, `/thumbs/${frame}.jpg`)}`;
export const exportUrl = (id) => `/api/exports/${id}/file`;

export function socket(path) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return new WebSocket(`${scheme}://${location.host}/api${path}`);
}

/** Sends a file, telling of its progress (0 to 1); `fetch` cannot, hence XMLHttpRequest. */
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("file", file);
    const sending = new XMLHttpRequest();
    sending.open("POST", "/api/uploads");
    sending.upload.onprogress = (event) => progress(event.total ? event.loaded / event.total : 0);
    sending.onerror = () => reject(new ApiError(0, "offline"));
    sending.onload = () => {
      let answer = null;
      try {
        answer = JSON.parse(sending.responseText);
      } catch {
        answer = { detail: sending.statusText };
      }
      if (sending.status < 300) resolve(answer);
      else reject(new ApiError(sending.status, messageOf(answer, sending), answer));
    };
    sending.send(form);
  });
}
