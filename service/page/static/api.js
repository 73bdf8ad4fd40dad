// The one way to the service: addresses below the page's own, the key, errors as objects.

import { inTab } from "./kept.js";

const KEY = "viscpm.key"; // of this tab alone

export const SUBMITTED = "submitted"; // an event of the window's: there is something in work

export const address = (path) => new URL(path, document.baseURI).href;

// What the service, or the way to it, answered instead of what was asked for
export class Refusal extends Error {
  constructor(status, error, retryAfterS = 0) {
    super(error.message || "");
    this.status = status;
    this.code = error.code || "unknown";
    this.param = error.param;
    this.moderation = error.moderation;
    this.jobId = error.job_id;
    this.retryAfterS = retryAfterS;
  }
}

let keyAsker = async () => false;
let asking = null;

// `ask(isWrong)` shows the question for the key and resolves to whether one was given
export const onKeyNeeded = (ask) => { keyAsker = ask; };
export const hasKey = () => Boolean(inTab.get(KEY));
export const keepKey = (key) => inTab.set(KEY, key.trim());
export const forgetKey = () => inTab.remove(KEY);

// Whoever needs a key meanwhile waits for the same question
function askForKey() {
  const wrong = hasKey();
  asking = asking || keyAsker(wrong).finally(() => { asking = null; });
  return asking;
}

function withKey(headers) {
  const key = inTab.get(KEY);
  return key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
}

// A Response that says ok. Throws Refusal, or what `fetch` throws: status 0 where nothing answered.
export async function send(path, { method = "GET", headers = {}, body, signal } = {}) {
  for (;;) {
    const used = inTab.get(KEY);
    let response;
    try {
      response = await fetch(address(path), { method, headers: withKey(headers), body, signal, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(0, { code: "unreachable", message: String(error.message) });
    }
    if (response.ok) return response;
    if (response.status === 401 && (inTab.get(KEY) !== used || await askForKey())) continue;
    throw await refusalOf(response);
  }
}

export async function refusalOf(response) {
  let error = {};
  try {
    error = (await response.json()).error || {};
  } catch { /* not ours: a proxy's page */ }
  return new Refusal(response.status, error, Number(response.headers.get("retry-after")) || 0);
}

const asJson = (fields) => ({ headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) });

export const getJson = async (path, signal) => (await send(path, { signal })).json();
export const postJson = async (path, fields, method = "POST") => (await send(path, { method, ...asJson(fields) })).json();
export const remove = (path) => send(path, { method: "DELETE" });

// Queues a job and gives its id at once: a lost connection then costs nothing. `fields` is an object, or a form.
export async function submit(path, fields) {
  const content = fields instanceof FormData ? { headers: {}, body: fields } : asJson(fields);
  const headers = { ...content.headers, Prefer: "respond-async", "Idempotency-Key": drawn() };
  for (let tries = 0; ; tries += 1) {
    try {
      const { id } = await (await send(path, { method: "POST", body: content.body, headers })).json();
      dispatchEvent(new Event(SUBMITTED));
      return id;
    } catch (error) { // sent again under the same key it is executed once
      if (error.status !== 0 || tries === 3) throw error;
      await pause(500 * 2 ** tries);
    }
  }
}

export const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

function drawn() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `page-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
