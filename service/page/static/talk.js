// The room for talks: their list, the open one, and what is asked next.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { Composer } from "./composer.js";
import { Dialog, Icon, Problem } from "./pieces.js";
import { useStore } from "./store.js";
import { TalkList } from "./talk_list.js";
import { talks, titleOf } from "./talk_store.js";
import { sentence, t } from "./texts.js";
import { Turn } from "./turn.js";

const EXAMPLES = [
  { file: "apple.png", question: "example_apple", alt: "alt_apple" },
  { file: "cat-dog.png", question: "example_pair", alt: "alt_pair" },
  { file: "bananas.png", question: "example_count", alt: "alt_count" },
];

export function TalkRoom() {
  useStore(talks);
  const [isListed, setListed] = useState(false);
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    talks.list().then(() => talks.resume());
    const pasted = (event) => take(event.clipboardData.files, event);
    addEventListener("paste", pasted);
    return () => removeEventListener("paste", pasted);
  }, []);
  const dropped = {
    onDragOver: (event) => { if (event.dataTransfer.types.includes("Files")) { event.preventDefault(); setOver(true); } },
    onDragLeave: (event) => { if (!event.currentTarget.contains(event.relatedTarget)) setOver(false); },
    onDrop: (event) => { setOver(false); take(event.dataTransfer.files, event); },
  };
  return html`
    <main class=${`room talk ${isOver ? "over" : ""}`} ...${dropped}>
      <aside class="side"><${TalkList} /></aside>
      <section id="main" class="stage" tabindex="-1">
        <div class="stage-bar">
          <button type="button" class="soft" onClick=${() => setListed(true)}><${Icon} name="list" />${t("talks")}</button>
          ${talks.turns.length > 0 && html`<button type="button" class="soft" onClick=${() => talks.begin()}><${Icon} name="plus" />${t("new_talk")}</button>`}
        </div>
        ${talks.turns.length ? html`<${OpenTalk} />` : html`<${Welcome} />`}
        <${Composer} />
      </section>
      ${isListed && html`<${Dialog} title=${t("talks")} onClose=${() => setListed(false)}>
        <${TalkList} onOpened=${() => setListed(false)} /><//>`}
      ${isOver && html`<div class="drop-sign" aria-hidden="true"><${Icon} name="picture" />${t("drop_here")}</div>`}
    </main>`;
}

// Given by hand: most are the first question, which is there to read anyway
const isOwnTitle = () => talks.title && talks.title !== titleOf(talks.turns[0].question);

function take(files, event) {
  const picture = [...files].find((file) => file.type.startsWith("image/"));
  if (!picture) return;
  event.preventDefault();
  talks.attach(picture);
}

function OpenTalk() {
  const end = useRef();
  const shown = talks.turns.map(({ state, answer }) => `${state}${answer.length}`).join(); // what is new is to be seen
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [shown]);
  return html`
    <div class="turns">
      <h1 class=${isOwnTitle() ? "talk-title" : "sr"}>${talks.title || t("talk")}</h1>
      ${talks.picture && html`
        <figure class="subject"><img src=${talks.picture.url} alt=${t(talks.picture.isSeen ? "alt_seen" : "alt_yours")} />
          ${talks.picture.isSeen && html`<figcaption>${t("as_seen")}</figcaption>`}</figure>`}
      <div role="log" aria-label=${t("answers")} aria-busy=${talks.running ? "true" : "false"}>
        ${talks.turns.map((turn, index) => html`<${Turn} key=${index} turn=${turn} isLast=${index === talks.turns.length - 1} />`)}
      </div>
      ${talks.problem && html`<${Problem} text=${sentence(talks.problem)} />`}
      <div ref=${end} class="turns-end"></div>
    </div>`;
}

function Welcome() {
  return html`
    <div class="welcome">
      <h1>${t("talk_title")}</h1>
      <p class="lead">${t(matchMedia("(pointer: coarse)").matches ? "talk_lead_touch" : "talk_lead")}</p>
      <h2 class="label">${t("examples")}</h2>
      <ul class="examples">${EXAMPLES.map((one) => html`<li><${Example} ...${one} /></li>`)}</ul>
      ${talks.problem && html`<${Problem} text=${sentence(talks.problem)} onRetry=${talks.problem.code !== "not_a_talk" && (() => talks.list())} />`}
    </div>`;
}

function Example({ file, question, alt }) {
  const url = new URL(`examples/${file}`, import.meta.url).href;
  const ask = async () => {
    talks.attach(await (await fetch(url)).blob());
    talks.ask(t(question));
    document.querySelector(".line textarea").focus(); // the button is gone
  };
  return html`<button type="button" class="example" onClick=${ask}>
    <img src=${url} alt=${t(alt)} width="112" height="112" /><span>${t(question)}</span></button>`;
}
