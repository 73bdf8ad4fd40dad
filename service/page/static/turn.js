// One question and its answer, as it comes.

import { html } from "./vendor/htm-preact.js";
import { CopyButton, Icon, Problem, moveFocus } from "./pieces.js";
import { talks } from "./talk_store.js";
import { sentence, t } from "./texts.js";

export function Turn({ turn, isLast }) {
  return html`
    <article class="turn" data-state=${turn.state}>
      <div class="asked"><span class="sr">${t("you")}: </span>
        ${turn.picture && html`<img src=${turn.picture} alt=${t("alt_attached")} />`}<p>${turn.question}</p></div>
      <div class="answered">
        ${turn.answer && html`<p class="answer">${turn.answer}${turn.state === "running" && html`<span class="caret" aria-hidden="true"></span>`}</p>`}
        <${Progress} turn=${turn} />
        ${turn.state === "stopped" && html`<p class="note">${t("stopped")}</p>`}
        ${turn.problem && html`<${Problem} text=${sentence(turn.problem)} onRetry=${mayRetry(turn) && leaving(() => talks.again(turn))} />`}
        ${turn.state === "done" && html`<${Notes} result=${turn.result} />`}
        ${turn.state === "done" && !talks.running && html`
          <div class="actions">
            ${turn.answer && html`<${CopyButton} text=${() => turn.answer} quiet />`}
            ${isLast && html`<button type="button" class="action" onClick=${leaving(() => talks.regenerate(turn))}><${Icon} name="again" />${t("regenerate")}</button>`}
            <button type="button" class="action" onClick=${leaving(() => talks.branch(turn))}><${Icon} name="branch" />${t("branch")}</button>
          </div>`}
      </div>
    </article>`;
}

// The button goes with what it does
const leaving = (act) => () => {
  act();
  moveFocus(".line textarea");
};

const mayRetry = (turn) => turn.state === "failed" && turn.problem.code !== "content_policy_violation";

function Progress({ turn }) {
  if (turn.state !== "running") return null;
  if (turn.isLost) return html`<p class="note pulse" role="status">${t("reconnecting")}</p>`;
  if (turn.answer) return null;
  return html`<p class="note pulse" role="status">${turn.place ? t("waiting_at", { n: turn.place }) : t("thinking")}</p>`;
}

function Notes({ result }) {
  if (!result) return null;
  const notes = [
    result.finish_reason === "length" && t("cut_short"),
    result.dropped_turns > 0 && t("dropped", { n: result.dropped_turns }),
    result.untrained && t("untrained"),
    result.image === false && t("no_picture"),
  ].filter(Boolean);
  return notes.map((text) => html`<p class="note">${text}</p>`);
}
