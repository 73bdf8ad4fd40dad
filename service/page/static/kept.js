// What the browser keeps for the page. Where it may keep nothing (storage blocked, or full), the page does until it is left.

class Kept {
  #storage; // asked for each time: where it is blocked, naming it throws
  #here = new Map();

  constructor(storage) {
    this.#storage = storage;
  }

  get(name) {
    if (this.#here.has(name)) return this.#here.get(name);
    try {
      return this.#storage().getItem(name);
    } catch {
      return null;
    }
  }

  set(name, text) {
    this.#here.delete(name);
    try {
      this.#storage().setItem(name, text);
    } catch {
      this.#here.set(name, text);
    }
  }

  remove(name) {
    this.#here.delete(name);
    try {
      this.#storage().removeItem(name);
    } catch { /* nothing was kept */ }
  }

  // An object; empty where there is none, or none that can be read
  object(name) {
    try {
      return JSON.parse(this.get(name)) || {};
    } catch {
      return {};
    }
  }
}

export const inTab = new Kept(() => sessionStorage); // until the tab is closed
export const inBrowser = new Kept(() => localStorage);

const PROMPTS = "viscpm.prompts";
const MAX_PROMPTS = 200;

// What paintings were asked for, by job id, the newest first: the service does not tell prompts and settings again.
// Read anew each time, as other tabs write it too.
export const prompts = {
  all: () => inBrowser.object(PROMPTS),
  add: (id, form) => keepPrompts([[id, form], ...Object.entries(prompts.all())]),
  forget: (ids) => keepPrompts(Object.entries(prompts.all()).filter(([id]) => !ids.includes(id))),
  forgetAll: () => inBrowser.remove(PROMPTS),
};

function keepPrompts(entries) {
  if (entries.length) inBrowser.set(PROMPTS, JSON.stringify(Object.fromEntries(entries.slice(0, MAX_PROMPTS))));
  else prompts.forgetAll();
}
