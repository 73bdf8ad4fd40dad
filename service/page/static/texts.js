// What the page says, in the browser's language or the one chosen. Each text: English, Chinese.

import { inBrowser } from "./kept.js";
import { Store } from "./store.js";

const CHOSEN = "viscpm.language";

const TEXTS = {
  talk: ["Talk", "对话"],
  paint: ["Paint", "作画"],
  api: ["API", "接口文档"],
  other_language: ["中文", "English"],
  skip: ["Skip to content", "跳到正文"],
  close: ["Close", "关闭"],
  cancel: ["Cancel", "取消"],
  retry: ["Try again", "重试"],
  copy: ["Copy", "复制"],
  copied: ["Copied", "已复制"],
  loading: ["Loading …", "载入中……"],

  talk_title: ["Ask about a picture", "就一张图片提问"],
  talk_lead: ["Drop a picture anywhere here, paste one, or pick one below. Then ask, in English or Chinese.",
    "把图片拖到这里、粘贴进来，或从下面选一张，然后用中文或英文提问。"],
  talk_lead_touch: ["Take a photo or choose a picture below. Then ask, in English or Chinese.", "在下面拍照或选择图片，然后用中文或英文提问。"],
  choose: ["Choose a picture", "选择图片"],
  photograph: ["Take a photo", "拍照"],
  drop_here: ["Drop it here", "松手即可放入"],
  examples: ["Or begin with one of these", "或者从这些例子开始"],
  example_apple: ["What is in the picture?", "图里有什么？"],
  example_pair: ["What is on the left?", "左边是什么？"],
  example_count: ["How many are there?", "有几个？"],
  alt_apple: ["a red apple on blue", "蓝色背景上的红苹果"],
  alt_pair: ["a cat and a dog on green", "绿色背景上的猫和狗"],
  alt_count: ["three bananas on purple", "紫色背景上的三根香蕉"],
  alt_yours: ["the picture of this talk", "这段对话的图片"],
  alt_seen: ["the picture of this talk, as the model sees it", "这段对话的图片（模型看到的样子）"],
  as_seen: ["as the model sees it", "模型看到的样子"],
  alt_attached: ["the picture that goes with your question", "随问题发送的图片"],
  take_off: ["Remove the picture", "移除图片"],
  question: ["Your question", "你的问题"],
  question_hint: ["Ask something …", "输入问题……"],
  ask: ["Ask", "提问"],
  stop: ["Stop", "停止"],
  answers: ["Questions and answers", "问答"],
  you: ["You", "你"],
  thinking: ["Looking …", "正在看……"],
  waiting_at: ["Waiting: number {n} in the queue", "排队中：第 {n} 位"],
  reconnecting: ["The connection is lost. Coming back to it …", "连接中断，正在恢复……"],
  stopped: ["Stopped.", "已停止。"],
  cut_short: ["The answer reached its longest length. Raise “Length” in the settings for more.", "回答达到长度上限。要更长，请在设置中调高“长度”。"],
  dropped: ["{n} earlier turns no longer fit and were left out.", "对话过长，已略去最早的 {n} 轮。"],
  no_picture: ["No picture came with this talk.", "这段对话没有图片。"],
  untrained: ["These weights are untrained: what comes of them means nothing.", "权重未经训练：输出没有意义。"],
  regenerate: ["Another answer", "换个回答"],
  branch: ["Branch from here", "从这里分支"],
  new_talk: ["New talk", "新对话"],
  talks: ["Talks", "对话列表"],
  no_talks: ["Nothing yet. Your talks will be listed here.", "还没有对话。以后会列在这里。"],
  more: ["Show more", "更多"],
  untitled: ["Untitled", "未命名"],
  turns: ["{n} turns", "{n} 轮"],
  turns_1: ["1 turn", "1 轮"],
  rename: ["Rename", "重命名"],
  export: ["Export", "导出"],
  import: ["Import a talk", "导入对话"],
  delete: ["Delete", "删除"],
  options_of: ["What to do with “{name}”", "对“{name}”的操作"],
  new_name: ["Name", "名称"],
  save: ["Save", "保存"],
  delete_sure: ["Delete “{name}”? Its picture, its turns and all that came of it are gone for good.", "删除“{name}”？图片、问答及由此产生的一切都将永久删除。"],
  settings: ["Settings", "设置"],
  search: ["How answers are found", "回答方式"],
  search_beam: ["Search: the likeliest answer", "搜索：最可能的回答"],
  search_sample: ["Sample: a different one each time", "采样：每次不同"],
  beams: ["Beams", "束宽"],
  temperature: ["Temperature", "温度"],
  length: ["Length, in tokens", "长度（词元）"],
  as_curl: ["The same request on a command line", "命令行中的同一请求"],

  paint_title: ["Paint a picture", "画一张画"],
  prompt: ["What to paint", "画什么"],
  prompt_hint: ["a red apple on a blue background", "蓝色背景上的红苹果"],
  negative: ["What to leave out", "不要出现"],
  count: ["Pictures", "张数"],
  size: ["Size", "尺寸"],
  size_auto: ["auto", "自动"],
  size_hint: ["auto, or width x height such as 512x512", "auto，或宽x高，例如 512x512"],
  steps: ["Steps", "步数"],
  guidance: ["Guidance", "引导强度"],
  seed: ["Seed", "种子"],
  seed_hint: ["random", "随机"],
  more_settings: ["More settings", "更多设置"],
  paint_it: ["Paint", "作画"],
  ideas: ["Ideas", "试试"],
  gallery: ["Your pictures", "你的画"],
  gallery_empty: ["What you paint appears here, and stays a while after a reload.", "画好的图会出现在这里，刷新页面后仍会保留一段时间。"],
  in_queue: ["In the queue", "排队中"],
  at_place: ["Number {n} in the queue", "排队第 {n} 位"],
  at_step: ["Step {n} of {total}", "第 {n} 步，共 {total} 步"],
  eta: ["about {s} s left", "约剩 {s} 秒"],
  checking: ["Looking it over …", "正在检查……"],
  painting: ["Painting", "作画中"],
  preview_alt: ["Preview of picture {n}", "第 {n} 张的预览"],
  picture_alt: ["Picture {n} for “{prompt}”", "“{prompt}”的第 {n} 张"],
  painted_at: ["Painted at {time}", "{time} 的画"],
  enlarge: ["Enlarge", "放大"],
  download: ["Download", "下载"],
  again: ["Again with this seed", "用此种子再画"],
  talk_about: ["Talk about this picture", "聊聊这张画"],
  seed_set: ["The seed is set to {n}. Change what you like, then paint.", "种子已设为 {n}。按需修改后再作画。"],
  score: ["score {n}", "评分 {n}"],
  seed_is: ["seed {n}", "种子 {n}"],
  unknown_words: ["The model does not know these words: {words}", "模型不认识这些词：{words}"],
  fewer: ["Held back by the safety screens: {n} of {total}.", "安全审查未放行 {n} 张（共 {total} 张）。"],

  key_title: ["This service asks for a key", "此服务需要密钥"],
  key_lead: ["Paste your API key. It stays in this tab until you close it.", "请粘贴你的 API 密钥。它只保留在此标签页，关闭即忘。"],
  key_wrong: ["That key is not known here. Is it complete, and has it expired?", "此密钥无效。请确认是否完整、是否过期。"],
  key: ["API key", "API 密钥"],
  key_use: ["Use this key", "使用此密钥"],
  key_forget: ["Forget the key", "忘记密钥"],

  state_ready: ["Ready", "就绪"],
  state_down: ["Not available: {parts}", "不可用：{parts}"],
  state_away: ["The service does not answer", "服务没有响应"],
  model_chat: ["chat", "对话"],
  model_paint: ["paint", "作画"],
  part_chat: ["chat", "对话"],
  part_paint: ["paint", "作画"],
  part_safety: ["screens", "审查"],
  part_redis: ["storage", "存储"],
  part_api: ["restarting", "重启中"],
  is_loading: ["loading", "加载中"],
  is_absent: ["not running", "未运行"],
  is_stalled: ["stalled", "停滞"],
  is_draining: ["leaving", "退出中"],
  is_unknown: ["unknown", "未知"],
  is_untrained: ["untrained", "未训练"],
  is_trained: ["trained", "已训练"],
  screens_on: ["screened", "内容审查开启"],
  screens_off: ["not screened", "内容审查关闭"],
  jobs_none: ["idle", "空闲"],
  jobs_some: ["{n} in work", "{n} 项进行中"],
  jobs_waiting: ["{n} waiting", "{n} 项等待"],
  memory: ["{size} in use", "占用 {size}"],
};

// By error code: what happened, and what to do
const ERRORS = {
  unreachable: ["The service cannot be reached. Check the connection, then try again.", "无法连接服务。请检查网络后重试。"],
  queue_full: ["Too many requests wait already. Try again in {s} s.", "排队的请求太多。请在 {s} 秒后重试。"],
  rate_limit_exceeded: ["This key has used up its minute. Try again in {s} s.", "此密钥本分钟的额度已用完。请在 {s} 秒后重试。"],
  too_many_watchers: ["Too many are watching this already. Try again in a moment.", "同时查看的连接太多。请稍后重试。"],
  no_worker: ["The model is not running just now. Whoever runs the service has to start its worker; try again then.", "模型目前没有运行。请联系服务管理员启动后重试。"],
  model_loading: ["The model is still being loaded. Try again in a minute.", "模型正在加载。请一分钟后重试。"],
  model_unavailable: ["This model is not served just now. Try again in a moment.", "此模型暂不可用。请稍后重试。"],
  bus_unavailable: ["The service's storage does not answer. Try again in a moment.", "服务的存储没有响应。请稍后重试。"],
  service_unavailable: ["The service has too much to do. Try again in a moment.", "服务繁忙。请稍后重试。"],
  draining: ["The service is restarting. Try again in a moment.", "服务正在重启。请稍后重试。"],
  safety_unavailable: ["The safety screens do not answer, and nothing leaves unscreened. Try again in a moment.", "内容审查没有响应，未经审查的内容不会放行。请稍后重试。"],
  deadline_exceeded: ["It took too long and was stopped. Try again, or ask for less.", "用时过长，已停止。请重试，或减少要求。"],
  cancelled: ["Stopped.", "已停止。"],
  invalid_image: ["This file cannot be read as a picture. Choose a PNG, JPEG, WebP, GIF or BMP.", "无法把此文件读作图片。请选择 PNG、JPEG、WebP、GIF 或 BMP。"],
  image_too_large: ["The picture has too many pixels. Choose a smaller one.", "图片像素过多。请换一张小一些的。"],
  content_too_large: ["The file is too large. Choose a smaller picture.", "文件过大。请换一张小一些的图片。"],
  unsupported_media_type: ["This kind of file is not taken. Choose a PNG or JPEG.", "不支持此类文件。请选择 PNG 或 JPEG。"],
  context_length_exceeded: ["The talk has become too long for the model. Begin a new one.", "对话过长，模型无法继续。请开始新对话。"],
  conversation_busy: ["The last question of this talk is still being answered. Wait for it, then ask again.", "上一个问题还在回答。请等它结束后再问。"],
  conversation_not_found: ["This talk is not there any more. Begin a new one.", "这段对话已不存在。请开始新对话。"],
  conversation_expired: ["This talk was not used for long and is gone. Begin a new one.", "这段对话久未使用，已被清除。请开始新对话。"],
  not_a_talk: ["This file holds no talk. Choose one that “Export” has made.", "此文件不是对话。请选择由“导出”生成的文件。"],
  job_not_found: ["This is not kept any longer. Ask again.", "结果已过保留期。请重新提交。"],
  unknown_words: ["The model knows none of these words. Describe it in other words.", "模型不认识这些词。请换一种说法。"],
  invalid_size: ["The model cannot paint this size. {detail}", "模型不支持此尺寸。{detail}"],
  insufficient_scope: ["This key may not do that. Use another key.", "此密钥没有相应权限。请更换密钥。"],
  invalid_api_key: ["A key is needed for this. Try again and enter yours.", "此操作需要密钥。请重试并输入。"],
  out_of_memory: ["There was not enough memory for this. Ask for less at once, or a smaller size.", "内存不足。请减少数量或尺寸。"],
  job_lost: ["The worker was lost several times over this. Try again, or ask otherwise.", "处理此请求的进程多次中断。请重试或换个问法。"],
  invalid_request: ["That cannot be done as asked. {detail}", "请求无法按此执行。{detail}"],
  unknown: ["Something went wrong. Try again; if it stays, tell whoever runs the service. {detail}", "出了问题。请重试；若仍如此，请告知服务管理员。{detail}"],
};

const REFUSED = {
  input: ["Not allowed: this looks like {what}. Ask for something else.", "不予处理：内容涉及{what}。请换个请求。"],
  output: ["The result was held back: it looks like {what}. Ask for something else.", "结果未予显示：内容涉及{what}。请换个请求。"],
  plain: ["The safety screens do not allow this. Ask for something else.", "安全审查不允许此内容。请换个请求。"],
};
const CATEGORIES = {
  harassment: ["harassment", "骚扰"],
  "harassment/threatening": ["threats", "威胁"],
  hate: ["hate", "仇恨"],
  "hate/threatening": ["threats out of hate", "仇恨威胁"],
  illicit: ["help with a crime", "违法行为"],
  "illicit/violent": ["help with weapons or violent crime", "武器或暴力犯罪"],
  "self-harm": ["self-harm", "自残"],
  "self-harm/instructions": ["instructions for self-harm", "自残方法"],
  "self-harm/intent": ["the intent of self-harm", "自残意图"],
  sexual: ["sexual content", "色情内容"],
  "sexual/minors": ["sexual content about minors", "涉及未成年人的色情内容"],
  violence: ["violence", "暴力"],
  "violence/graphic": ["graphic violence", "血腥暴力"],
  profanity: ["coarse language", "粗话"],
  unsafe: ["unsafe content", "不安全内容"],
};

class Language extends Store {
  constructor() {
    super();
    const chosen = inBrowser.get(CHOSEN) || navigator.language;
    this.code = chosen.toLowerCase().startsWith("zh") ? "zh" : "en";
    document.documentElement.lang = this.code === "zh" ? "zh-CN" : "en";
  }

  switch() {
    this.code = this.code === "zh" ? "en" : "zh";
    inBrowser.set(CHOSEN, this.code);
    document.documentElement.lang = this.code === "zh" ? "zh-CN" : "en";
    this.changed();
  }

  in(pair) {
    return pair[this.code === "zh" ? 1 : 0];
  }
}

export const language = new Language();

const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

export const t = (name, values = {}) => filled(language.in(TEXTS[name]), values);

// An error as a sentence that says what to do
export function sentence(error) {
  if (error.code === "content_policy_violation") return refusal(error.moderation);
  const pair = ERRORS[error.code] || ERRORS[error.status >= 400 && error.status < 500 ? "invalid_request" : "unknown"];
  return filled(language.in(pair), { s: error.retryAfterS || 5, detail: error.message }).trim();
}

// What the screens found, in words
function refusal(moderation) {
  const results = ["input", "output"].flatMap((name) => moderation?.[name]?.results || []);
  const found = results.flatMap(({ categories }) => Object.keys(categories || {}).filter((name) => categories[name]));
  const exact = found.filter((name) => !found.some((other) => other.startsWith(`${name}/`)));
  const names = [...new Set(exact)].map((name) => (CATEGORIES[name] ? language.in(CATEGORIES[name]) : name));
  const isOutput = (moderation?.output?.results || []).some(({ flagged }) => flagged);
  if (!names.length) return language.in(REFUSED.plain);
  return filled(language.in(REFUSED[isOutput ? "output" : "input"]), { what: names.join(language.code === "zh" ? "、" : ", ") });
}
