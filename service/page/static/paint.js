// The room for paintings: what to paint, and what came of it.

import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import { address, hasKey } from "./api.js";
import { Gallery } from "./gallery.js";
import { Curl, NumberField, curlHead, quoted, submitting } from "./pieces.js";
import { paintings } from "./paint_store.js";
import { useStore } from "./store.js";
import { language, t } from "./texts.js";

const IDEAS = [
  ["a red apple on a blue background", "蓝色背景上的红苹果"],
  ["snowman", "雪人"],
  ["a hot air balloon", "热气球"],
  ["cat face", "猫脸"],
];
const COUNTS = [1, 2, 3, 4];
const SIZES = ["auto", "256x256", "512x512", "768x512", "512x768"];

export function PaintRoom() {
  useStore(paintings);
  useEffect(() => { if (!paintings.isLoaded) paintings.load(); }, []);
  return html`
    <main id="main" class="room paint" tabindex="-1">
      <${Request} />
      <${Gallery} />
    </main>`;
}

function Request() {
  const { form, note } = paintings;
  const area = useRef();
  useEffect(() => { if (note !== null) area.current.focus(); }, [note]);
  const field = (name) => (value) => paintings.set({ [name]: value });
  const paint = () => { if (form.prompt.trim()) paintings.paint(); };
  const typed = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
      event.preventDefault();
      paint();
    }
  };
  return html`
    <form class="request" onSubmit=${submitting(paint)}>
      <h1>${t("paint_title")}</h1>
      <label class="field"><span class="label">${t("prompt")}</span>
        <textarea ref=${area} rows="3" value=${form.prompt} placeholder=${t("prompt_hint")}
          onInput=${(event) => field("prompt")(event.target.value)} onKeyDown=${typed}></textarea></label>
      <div class="ideas" role="group" aria-label=${t("ideas")}>${IDEAS.map((idea) => html`
        <button type="button" class="chip" onClick=${() => field("prompt")(language.in(idea))}>${language.in(idea)}</button>`)}</div>
      <fieldset class="counts"><legend class="label">${t("count")}</legend>${COUNTS.map((count) => html`
        <label><input type="radio" name="count" checked=${Number(form.count) === count} onChange=${() => field("count")(count)} /><span>${count}</span></label>`)}</fieldset>
      <details class="fold"><summary>${t("more_settings")}</summary>
        <label class="field"><span class="label">${t("negative")}</span>
          <input type="text" value=${form.negative} onInput=${(event) => field("negative")(event.target.value)} /></label>
        <div class="fields">
          <label class="field"><span class="label">${t("size")}</span>
            <input type="text" list="sizes" value=${form.size} title=${t("size_hint")} pattern="auto|\\d{2,4} *[xX×*] *\\d{2,4}"
              onInput=${(event) => field("size")(event.target.value)} /></label>
          <datalist id="sizes">${SIZES.map((size) => html`<option value=${size} />`)}</datalist>
          <${NumberField} label=${t("steps")} value=${form.steps} placeholder="50" min="1" max="1000" step="1" onInput=${field("steps")} />
          <${NumberField} label=${t("guidance")} value=${form.guidance} placeholder="7.5" min="0" max="50" step="0.1" onInput=${field("guidance")} />
          <${NumberField} label=${t("seed")} value=${form.seed} placeholder=${t("seed_hint")} min="0" max="9007199254740991" step="1" onInput=${field("seed")} />
        </div>
        <${Curl} text=${curl} />
      </details>
      ${note !== null && html`<p class="note" role="status">${t("seed_set", { n: note })}</p>`}
      <button class="main big" disabled=${!form.prompt.trim()}>${t("paint_it")}</button>
    </form>`;
}

function curl() {
  const fields = { ...paintings.fields(), prompt: paintings.form.prompt.trim() || t("prompt_hint") };
  return `${curlHead(address("paint"), hasKey())} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(fields))}`;
}
