// A job's events as they come, over as many connections as that takes.

import { Refusal, pause, send } from "./api.js";

const SILENCE_MS = 40_000; // the service says something every 15 s
const PATIENCE_MS = 180_000; // without any answer
const TRANSIENT = ["bus_unavailable", "draining", "service_unavailable", "too_many_watchers"];

// Calls `on(event)` with the data of each event until the stream has ended.
// `onLost(isLost)` tells when the connection is gone and when it is back. Throws Refusal.
export async function follow(jobId, on, { signal, onLost = () => {}, onStart = () => {} } = {}) {
  let lastId = "";
  let lostSince = 0;
  for (let tries = 0; ; tries += 1) {
    try {
      const headers = lastId ? { "Last-Event-ID": lastId } : {};
      const response = await send(`jobs/${encodeURIComponent(jobId)}/events`, { headers, signal });
      onStart(lastId);
      for await (const event of eventsOf(response.body, signal)) {
        if (lostSince) onLost(false);
        lostSince = 0;
        tries = 0;
        if (event.id) lastId = event.id;
        if (event.data === "[DONE]") return;
        const data = JSON.parse(event.data);
        if (data.error) throw new Refusal(500, data.error);
        on(data);
      }
    } catch (error) {
      if (error.name === "AbortError" && signal?.aborted) throw error;
      const isTransient = !(error instanceof Refusal) || error.status === 0 || error.status >= 502
        || TRANSIENT.includes(error.code);
      if (!isTransient) throw error;
      if (lostSince && Date.now() - lostSince > PATIENCE_MS) throw error;
    }
    if (!lostSince) onLost(true);
    lostSince = lostSince || Date.now();
    await Promise.race([pause(Math.min(400 * 2 ** tries, 5000)), online()]);
  }
}

const online = () => new Promise((resume) => addEventListener("online", resume, { once: true }));

async function* eventsOf(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await withinSilence(reader.read());
      if (done || signal?.aborted) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const event = { id: "", data: "" };
        for (const line of block.split("\n")) {
          if (line.startsWith("data: ")) event.data += line.slice(6);
          if (line.startsWith("id: ")) event.id = line.slice(4);
        }
        if (event.data) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function withinSilence(read) {
  let timer;
  const silence = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error("silence")), SILENCE_MS);
  });
  return Promise.race([read, silence]).finally(() => clearTimeout(timer));
}
