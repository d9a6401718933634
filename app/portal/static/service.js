// The service's API as a page of ours speaks to it: the session's cookie says who, and refusals become errors with words.

export const SESSION_ENDED = "your session has ended: sign in again in another tab, then try again here; nothing is lost";

export class Refusal extends Error {
  constructor(status, problem) {
    const errors = Array.isArray(problem?.errors) ? problem.errors : [];
    const said = errors.map((error) => error.message).join("; ") || problem?.detail || problem?.title;
    super(status === 401 ? SESSION_ENDED : said || `the service answered with status ${status}`);
    this.status = status;
    // Too many requests, and what is wrong on the service's side, may go better later.
    this.isPassing = status === 429 || status >= 500 || status === 0;
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", redirect: "error", ...options });
  } catch {
    throw new Refusal(0, { detail: "the service does not answer: check the connection and try again; nothing here is lost" });
  }
  if (response.ok) return response;
  throw new Refusal(response.status, await response.json().catch(() => null));
}

export const read = async (path) => new Uint8Array(await (await ask(path)).arrayBuffer());
export const get = async (path) => (await ask(path)).json();

export async function post(path, body) {
  return (await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })).json();
}

export async function upload(file, mediaType) {
  return (await ask("/v1/artifacts", { method: "POST", headers: { "Content-Type": mediaType }, body: file })).json();
}
