// The talk that is open, and the list of one's own.

import { Refusal, getJson, postJson, remove, submit } from "./api.js";
import { follow } from "./sse.js";
import { inTab } from "./kept.js";
import { blobOf, numberOf, save } from "./pieces.js";
import { Store } from "./store.js";

const PENDING = "viscpm.question"; // of this tab: what is being answered, so that a reload finds it again
const PAGE = 20;
const MAX_TITLE = 80;

export const DEFAULTS = { samples: false, beams: "", temperature: "", length: "" };

class Talks extends Store {
  listed = [];
  cursor = null;
  id = "";
  title = "";
  picture = null; // {url, isSeen}: of the talk; isSeen: in the model's size
  turns = []; // {question, answer, state: running|done|stopped|failed, …}
  numGone = 0; // oldest turns, which the service keeps no more
  attached = null; // {blob, url}: goes with the next question
  settings = { ...DEFAULTS };
  problem = null; // of the list, or of what was done to a talk
  #opened = 0; // talks opened so far: what belongs to another one is not shown

  get running() {
    return this.turns.find((turn) => turn.state === "running");
  }

  attach(blob) {
    this.attached = { blob, url: URL.createObjectURL(blob) };
    this.changed();
  }

  detach() {
    this.attached = null;
    this.changed();
  }

  begin() {
    this.#opened += 1;
    Object.assign(this, { id: "", title: "", picture: null, turns: [], numGone: 0, attached: null, problem: null });
    inTab.remove(PENDING);
    this.changed();
  }

  // Fields of a request that the settings stand for; what is empty is the service's choice
  fields() {
    const { samples, beams, temperature, length } = this.settings;
    const search = samples ? { do_sample: true, temperature: numberOf(temperature) } : { num_beams: numberOf(beams) };
    const given = Object.entries({ ...search, max_new_tokens: numberOf(length) });
    return Object.fromEntries(given.filter(([, value]) => value !== undefined));
  }

  async ask(question) {
    const picture = this.attached;
    this.attached = null;
    if (picture && !this.picture) this.picture = { url: picture.url };
    const turn = { question, answer: "", picture: picture && this.turns.length ? picture.url : null, sent: picture };
    this.turns.push(turn);
    await this.#answer(turn, "chat", picture ? form({ ...this.#asked(question) }, picture.blob) : this.#asked(question));
  }

  #asked(question) {
    return { ...(this.id && { conversation_id: this.id }), question, stream: true, ...this.fields() };
  }

  async again(turn) {
    this.turns = this.turns.filter((one) => one !== turn);
    if (turn.sent) this.attached = turn.sent;
    await this.ask(turn.question);
  }

  // Another answer to the last question; the old one stays where there is none
  async regenerate(turn) {
    const before = { ...turn };
    const fields = { ...this.fields(), do_sample: true, stream: true };
    delete fields.num_beams;
    await this.#answer(turn, `conversations/${this.id}/regenerate`, fields);
    if (turn.state !== "done") {
      Object.assign(turn, before, { problem: turn.problem });
      this.changed();
    }
  }

  async #answer(turn, path, fields) {
    Object.assign(turn, { state: "running", answer: "", problem: null, place: null, isLost: false, jobId: "", result: null });
    const opened = this.#opened;
    this.changed();
    try {
      turn.jobId = await submit(path, fields);
      if (turn.isStopping) await remove(`jobs/${turn.jobId}`);
      inTab.set(PENDING, JSON.stringify({ jobId: turn.jobId, question: turn.question, id: this.id }));
      await this.#watch(turn, opened);
      await this.#name(turn, opened);
    } catch (error) {
      this.#end(turn, error);
    }
    if (opened === this.#opened) {
      inTab.remove(PENDING);
      if (!this.id && turn.sent && !this.attached) { // nothing of it is kept: the picture goes with the next question
        this.attached = turn.sent;
        this.picture = null;
      }
    }
    this.changed();
    await this.list();
  }

  async #watch(turn, opened) {
    const looking = setInterval(() => this.#lookUp(turn), 1500);
    try {
      await follow(turn.jobId, (event) => {
        if (event.delta) turn.answer += event.delta;
        if (event.object === "chat.answer") this.#answered(turn, event, opened);
        this.changed();
      }, {
        onStart: (lastId) => { if (!lastId) turn.answer = ""; },
        onLost: (isLost) => { turn.isLost = isLost; this.changed(); },
      });
    } finally {
      clearInterval(looking);
    }
    if (turn.state === "running") turn.state = "stopped";
  }

  #answered(turn, answer, opened) {
    turn.answer = answer.answer;
    if (answer.finish_reason === "content_filter") {
      this.#end(turn, { code: "content_policy_violation", moderation: answer.moderation });
      return;
    }
    Object.assign(turn, { result: answer, state: "done" });
    if (opened === this.#opened) this.id = answer.conversation_id;
  }

  // A talk is called as its first question, until it is renamed
  async #name(turn, opened) {
    const id = turn.result?.conversation_id;
    if (!id || opened !== this.#opened || this.title || this.turns.length > 1) return;
    this.title = titleOf(turn.question);
    await postJson(`conversations/${id}`, { title: this.title }, "PATCH").catch(() => {});
  }

  // Where in the queue a question is that nothing has come of yet
  async #lookUp(turn) {
    if (turn.answer || turn.isLost) return;
    try {
      turn.place = (await getJson(`jobs/${turn.jobId}`)).position;
      this.changed();
    } catch { /* the stream will tell */ }
  }

  #end(turn, error) {
    turn.isLost = false;
    if (error.code === "cancelled" || error.code === "job_not_found" && turn.isStopping) turn.state = "stopped";
    else Object.assign(turn, { state: "failed", problem: error });
  }

  async stop() {
    const turn = this.running;
    if (!turn) return;
    turn.isStopping = true;
    if (turn.jobId) await remove(`jobs/${turn.jobId}`).catch(() => {});
  }

  // What was being answered when the page was left
  async resume() {
    const pending = inTab.object(PENDING);
    if (!pending.jobId || this.turns.length) return;
    if (pending.id) await this.open(pending.id);
    inTab.set(PENDING, JSON.stringify(pending));
    const turn = { question: pending.question, answer: "", state: "running", jobId: pending.jobId };
    this.turns.push(turn);
    this.changed();
    const opened = this.#opened;
    try {
      await this.#watch(turn, opened);
      if (opened === this.#opened && this.id) await this.open(this.id); // with its picture
    } catch (error) {
      this.#end(turn, error);
    }
    inTab.remove(PENDING);
    this.changed();
  }

  async list(more = false) {
    await this.#doing(async () => {
      const page = await getJson(`conversations?limit=${PAGE}${more && this.cursor ? `&cursor=${this.cursor}` : ""}`);
      this.listed = more ? [...this.listed, ...page.data] : page.data;
      this.cursor = page.has_more ? page.next_cursor : null;
    });
  }

  async open(id) {
    await this.#doing(async () => {
      const [told, kept] = await Promise.all([getJson(`conversations/${id}`), getJson(`conversations/${id}/export`)]);
      this.begin();
      this.id = id;
      this.title = told.title || "";
      this.numGone = told.dropped_turns;
      this.turns = told.turns.map(({ question, answer, finish_reason }) => (
        { question, answer, state: "done", result: { finish_reason, conversation_id: id } }));
      if (kept.image) this.picture = { url: URL.createObjectURL(blobOf(kept.image)), isSeen: true };
    });
  }

  // A new talk of the turns up to this one; those without an answer are not kept, and do not count
  async branch(turn) {
    await this.#doing(async () => {
      const picture = this.picture;
      const index = this.turns.filter((one) => one.state === "done").indexOf(turn);
      const made = await postJson(`conversations/${this.id}/branch`, { turn: this.numGone + index + 2 });
      await this.open(made.id);
      this.picture = picture;
      await this.list();
    });
  }

  async rename(id, title) {
    await this.#doing(async () => {
      await postJson(`conversations/${id}`, { title: title.trim() || null }, "PATCH");
      if (id === this.id) this.title = title.trim();
      await this.list();
    });
  }

  async delete(id) {
    await this.#doing(async () => {
      await remove(`conversations/${id}`);
      if (id === this.id) this.begin();
      await this.list();
    });
  }

  async export(id, name) {
    await this.#doing(async () => {
      const kept = await getJson(`conversations/${id}/export`);
      save(new Blob([JSON.stringify(kept, null, 1)], { type: "application/json" }), `${name.slice(0, 60).replace(/[\\/:]/g, "-")}.json`);
    });
  }

  async import(file) {
    await this.#doing(async () => {
      const fields = await talkIn(file);
      await this.open((await postJson("conversations/import", fields)).id);
      await this.list();
    });
  }

  async #doing(act) {
    try {
      await act();
      this.problem = null;
    } catch (error) {
      this.problem = error;
    }
    this.changed();
  }
}

// Throws Refusal
async function talkIn(file) {
  try {
    return JSON.parse(await file.text());
  } catch {
    throw new Refusal(0, { code: "not_a_talk" });
  }
}

// What a talk is called until it is renamed: its first question, as far as a list has room for it
export function titleOf(question) {
  const letters = [...question];
  if (letters.length <= MAX_TITLE) return question;
  const begin = letters.slice(0, MAX_TITLE - 1).join("");
  const space = begin.lastIndexOf(" ");
  return `${begin.slice(0, space > MAX_TITLE / 2 ? space : undefined)}…`;
}

function form(fields, picture) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, String(value));
  body.append("image", picture, "picture");
  return body;
}

export const talks = new Talks();
