// State outside of the components: changed in place, and told to those who show it.

import { useEffect, useState } from "./vendor/htm-preact.js";

export class Store {
  #listeners = new Set();

  changed() {
    for (const listener of this.#listeners) listener();
  }

  listen(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

export function useStore(store) {
  const [, draw] = useState(0);
  useEffect(() => store.listen(() => draw((count) => count + 1)), [store]);
  return store;
}
