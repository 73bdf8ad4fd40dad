// What each package asks of the server at BASE_URL about the picture PICTURE (a data URL): one JSON line for each.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { HumanMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, streamText } from "ai";
import OpenAI from "openai";

const [baseURL, url] = [process.env.BASE_URL, process.env.PICTURE];
const model = "gpt-4o";
const parts = (text) => [{ type: "text", text }, { type: "image_url", image_url: { url } }];
const tell = (name, ...told) => console.log(JSON.stringify([name, ...told]));

const openai = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const completions = openai.chat.completions;
const whole = await completions.create({ model, messages: [{ role: "user", content: parts("echo one") }] });
tell("openai", whole.choices[0].message.content, whole.usage.total_tokens > 0);

let streamed = "";
let usage;
const asked = { model, messages: [{ role: "user", content: parts("stream 3") }], stream: true };
for await (const chunk of await completions.create({ ...asked, stream_options: { include_usage: true } })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
tell("openai stream", streamed, usage.completion_tokens);

const unknown = await completions.create({ ...asked, model: "gpt-5" }).catch((error) => error);
tell("openai error", unknown.constructor.name, unknown.code);
tell("openai models", (await openai.models.list()).data.some((one) => one.id === model));

const first = await openai.responses.create({ model, input: "echo one" });
const next = { model, input: "stream 2", previous_response_id: first.id, stream: true };
let last;
for await (const event of await openai.responses.create(next)) last = event;
tell("openai responses", first.output_text, last.type, last.response.output[0].content[0].text);

const chain = new ChatOpenAI({ model, apiKey: "none", configuration: { baseURL }, maxTokens: 30, maxRetries: 0 });
const answer = await chain.invoke([new HumanMessage({ content: parts("echo one") })]);
let pieces = "";
for await (const piece of await chain.stream([new HumanMessage({ content: parts("stream 3") })])) pieces += piece.content;
tell("langchain", answer.content, answer.usage_metadata.total_tokens > 0, pieces);

const provider = createOpenAICompatible({ name: "viscpm", baseURL, apiKey: "none", includeUsage: true });
const content = [{ type: "text", text: "echo one" }, { type: "image", image: url.split(",")[1] }];
const settings = { model: provider(model), maxRetries: 0 };
const generated = await generateText({ ...settings, messages: [{ role: "user", content }] });
const flowing = streamText({ ...settings, messages: [{ role: "user", content: [{ ...content[0], text: "stream 3" }, content[1]] }] });
let flowed = "";
for await (const text of flowing.textStream) flowed += text;
tell("ai sdk", generated.text, flowed, await flowing.finishReason);
