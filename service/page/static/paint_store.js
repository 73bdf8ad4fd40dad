// What is being painted, and the gallery of one's own jobs.

import { getJson, remove, submit } from "./api.js";
import { prompts } from "./kept.js";
import { blobOf, numberOf } from "./pieces.js";
import { follow } from "./sse.js";
import { Store } from "./store.js";

const SHOWN = 24;
const UNENDED = ["reserved", "queued", "running", "generated"];
const STAYING = ["done", ...UNENDED]; // what a reload shows again

export const EMPTY = { prompt: "", negative: "", count: 1, size: "auto", steps: "", guidance: "", seed: "" };

class Paintings extends Store {
  form = { ...EMPTY };
  jobs = []; // newest first: {id, state, asked, pictures, previews, step, total, place, etaS, problem, isLost}
  problem = null;
  note = null; // seed that was taken over
  isLoaded = false;

  set(fields) {
    Object.assign(this.form, fields);
    this.note = null;
    this.changed();
  }

  // As the request's fields; what is empty is the service's choice
  fields() {
    const { prompt, negative, count, size, steps, guidance, seed } = this.form;
    const all = {
      prompt: prompt.trim(),
      negative_prompt: negative.trim() || undefined,
      n: Number(count),
      size: size.trim().toLowerCase().replace(/\s*[x×*]\s*/, "x") || "auto",
      num_inference_steps: numberOf(steps),
      guidance_scale: numberOf(guidance),
      seed: numberOf(seed),
    };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined && value !== "auto"));
  }

  async paint() {
    const asked = { ...this.form };
    const job = { ...fresh("", asked), isNew: true };
    this.note = null;
    this.jobs.unshift(job);
    this.changed();
    try {
      job.id = await submit("paint", { ...this.fields(), stream: true, partial_images: 3 });
      prompts.add(job.id, asked);
      if (job.isStopping) await remove(`jobs/${job.id}`);
      await this.#watch(job);
    } catch (error) {
      this.#end(job, error);
    }
  }

  async stop(job) {
    job.isStopping = true;
    this.changed();
    if (job.id) await remove(`jobs/${job.id}`).catch(() => {});
  }

  // Gone for good, with what it was asked for
  dismiss(job) {
    this.jobs = this.jobs.filter((one) => one !== job);
    prompts.forget([job.id]);
    this.changed();
  }

  // The jobs that the service still knows, those too that are being painted
  async load() {
    try {
      const asked = prompts.all();
      const { data, has_more: isCut } = await getJson("jobs?limit=100");
      const staying = data.filter((one) => one.kind === "paint" && STAYING.includes(one.state));
      const ids = staying.map((one) => one.id);
      if (!isCut) prompts.forget(Object.keys(asked).filter((id) => !ids.includes(id)));
      const known = new Set(this.jobs.map((job) => job.id));
      const found = staying.slice(0, SHOWN).filter((one) => !known.has(one.id));
      const jobs = found.map((one) => fresh(one.id, asked[one.id] || null, one));
      this.jobs = [...this.jobs, ...jobs];
      this.isLoaded = true;
      this.problem = null;
      this.changed();
      for (const job of jobs) {
        if (job.state === "done") await this.#fetch(job);
        else this.#watch(job).catch((error) => this.#end(job, error));
      }
    } catch (error) {
      this.problem = error;
      this.changed();
    }
  }

  async #watch(job) {
    const looking = setInterval(() => this.#lookUp(job), 1000);
    this.#lookUp(job);
    try {
      await follow(job.id, (event) => this.#happened(job, event), {
        onStart: (lastId) => { if (!lastId) Object.assign(job, { previews: [], pictures: [] }); },
        onLost: (isLost) => { job.isLost = isLost; this.changed(); },
      });
    } finally {
      clearInterval(looking);
    }
    job.state = job.pictures.length ? "done" : "cancelled";
    this.changed();
  }

  #happened(job, event) {
    if (event.type === "image_generation.progress") Object.assign(job, { step: event.step, total: event.total_steps, state: "running" });
    if (event.type === "image_generation.partial_image") job.previews = [urlOf(event)];
    if (event.type === "image_generation.completed") {
      job.pictures.push(pictureOf(event, event.output_format));
      Object.assign(job, { unknown: event.unknown_words, untrained: event.untrained });
    }
    this.changed();
  }

  async #lookUp(job) {
    try {
      const { state, position, eta_s: etaS } = await getJson(`jobs/${job.id}`);
      // What is told late is of before the end
      if (UNENDED.includes(state) && UNENDED.includes(job.state)) Object.assign(job, { state, place: position, etaS });
      this.changed();
    } catch { /* the stream will tell */ }
  }

  async #fetch(job) {
    try {
      const { answer } = await getJson(`jobs/${job.id}`);
      job.pictures = (answer?.data || []).map((one) => pictureOf(one, answer.output_format));
      Object.assign(job, { unknown: answer?.unknown_words, untrained: answer?.untrained });
      if (!job.pictures.length) this.dismiss(job);
    } catch (error) {
      if (error.code === "job_not_found") this.dismiss(job);
      else Object.assign(this, { problem: error, jobs: this.jobs.filter((one) => one !== job) });
    }
    this.changed();
  }

  #end(job, error) {
    if (error.code === "cancelled" || job.isStopping) this.dismiss(job);
    else Object.assign(job, { state: "failed", problem: error, isLost: false });
    this.changed();
  }

  // The same picture's beginning, for another prompt or other settings
  takeSeed(job, picture) {
    Object.assign(this.form, { ...(job.asked || {}), count: 1, seed: String(picture.seed) });
    this.note = picture.seed;
    this.changed();
  }
}

let nextKey = 0;

const fresh = (id, asked, { state, created } = { state: "queued", created: Date.now() / 1000 }) => (
  { key: nextKey++, id, asked, state, created, pictures: [], previews: [], step: 0, total: 0, place: null, etaS: null, problem: null, isLost: false });

const urlOf = ({ b64_json: data, output_format: format }) => URL.createObjectURL(blobOf(data, `image/${format || "png"}`));

function pictureOf(told, format) {
  const blob = blobOf(told.b64_json, `image/${format}`);
  return { blob, url: URL.createObjectURL(blob), seed: told.seed, score: told.score, format };
}

export const paintings = new Paintings();
