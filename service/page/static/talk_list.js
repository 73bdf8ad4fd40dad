// One's own talks: open, rename, export, delete, bring one back.

import { html, useState } from "./vendor/htm-preact.js";
import { Dialog, Icon, submitting } from "./pieces.js";
import { talks } from "./talk_store.js";
import { t } from "./texts.js";

export function TalkList({ onOpened = () => {} }) {
  const [asked, setAsked] = useState(null); // {talk, about: options|name|deletion}
  const done = () => setAsked(null);
  return html`
    <nav class="talks" aria-label=${t("talks")}>
      <button type="button" class="soft fill" onClick=${() => { talks.begin(); onOpened(); }}><${Icon} name="plus" />${t("new_talk")}</button>
      ${talks.listed.length === 0 && html`<p class="note">${t("no_talks")}</p>`}
      <ul>${talks.listed.map((talk) => html`<li key=${talk.id} class=${talk.id === talks.id ? "current" : ""}>
        <button type="button" class="talk-name" aria-current=${talk.id === talks.id ? "true" : undefined}
          onClick=${() => { talks.open(talk.id); onOpened(); }}>
          <span>${nameOf(talk)}</span><small>${t(talk.num_turns === 1 ? "turns_1" : "turns", { n: talk.num_turns })}</small></button>
        <button type="button" class="bare" aria-label=${t("options_of", { name: nameOf(talk) })}
          onClick=${() => setAsked({ talk, about: "options" })}><${Icon} name="more" /></button></li>`)}</ul>
      ${talks.cursor && html`<button type="button" class="soft fill" onClick=${() => talks.list(true)}>${t("more")}</button>`}
      <label class="import"><span>${t("import")}</span>
        <input type="file" accept="application/json,.json" onChange=${(event) => { talks.import(event.target.files[0]); event.target.value = ""; onOpened(); }} /></label>
      ${asked?.about === "options" && html`<${Options} talk=${asked.talk} onAsk=${(about) => setAsked({ talk: asked.talk, about })} onDone=${done} />`}
      ${asked?.about === "name" && html`<${Name} talk=${asked.talk} onDone=${done} />`}
      ${asked?.about === "deletion" && html`<${Deletion} talk=${asked.talk} onDone=${done} />`}
    </nav>`;
}

// A talk without a title is known by when it was used
function nameOf(talk) {
  if (talk.title) return talk.title;
  const when = new Date(talk.last_used * 1000);
  return `${t("untitled")}, ${when.toLocaleString(document.documentElement.lang, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" })}`;
}

function Options({ talk, onAsk, onDone }) {
  const name = nameOf(talk);
  return html`<${Dialog} title=${name} onClose=${onDone}>
    <div class="menu">
      <button type="button" class="soft fill" onClick=${() => onAsk("name")}>${t("rename")}</button>
      <button type="button" class="soft fill" onClick=${() => { talks.export(talk.id, name); onDone(); }}>${t("export")}</button>
      <button type="button" class="soft fill danger" onClick=${() => onAsk("deletion")}>${t("delete")}</button>
    </div><//>`;
}

function Name({ talk, onDone }) {
  const [title, setTitle] = useState(talk.title || "");
  return html`<${Dialog} title=${t("rename")} onClose=${onDone}>
    <form onSubmit=${submitting(() => { talks.rename(talk.id, title); onDone(); })}>
      <label class="field"><span class="label">${t("new_name")}</span>
        <input type="text" maxlength="200" value=${title} autofocus onInput=${(event) => setTitle(event.target.value)} /></label>
      <div class="row end"><button type="button" class="soft" onClick=${onDone}>${t("cancel")}</button><button class="main">${t("save")}</button></div>
    </form><//>`;
}

function Deletion({ talk, onDone }) {
  return html`<${Dialog} title=${t("delete")} onClose=${onDone}>
    <p>${t("delete_sure", { name: nameOf(talk) })}</p>
    <div class="row end"><button type="button" class="soft" onClick=${onDone} autofocus>${t("cancel")}</button>
      <button type="button" class="main danger" onClick=${() => { talks.delete(talk.id); onDone(); }}>${t("delete")}</button></div><//>`;
}
