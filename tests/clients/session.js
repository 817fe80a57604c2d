// A session with the daemon by another gRPC than ours, from the .proto files alone:
//
//     node session.js PROTO_FOLDER HOST:PORT TOKEN WAV_TO_WRITE
//
// One line of JSON per thing done. Ends with 1 where a call ended as it should not.
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const [protoFolder, address, token, wav] = process.argv.slice(2);

const contract = grpc.loadPackageDefinition(
  protoLoader.loadSync(
    ["generation_service", "clip_service"].map((name) => path.join("soundgen", "v1", `${name}.proto`)),
    { includeDirs: [protoFolder], keepCase: true, longs: Number, enums: String, oneofs: true },
  ),
).soundgen.v1;
const plain = grpc.credentials.createInsecure();
const generation = new contract.GenerationService(address, plain);
const clips = new contract.ClipService(address, plain);
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${token}`);

function tell(what, facts) {
  process.stdout.write(`${JSON.stringify({ what, ...facts })}\n`);
}

// One answer, or the error.
function asked(service, method, request) {
  return new Promise((resolve, reject) => {
    service[method](request, metadata, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// Every message of a stream, and the status it ended with. `onMessage` sees each as it comes.
function streamed(call, onMessage = () => {}) {
  const messages = [];
  return new Promise((resolve) => {
    call.on("data", (message) => {
      messages.push(message);
      onMessage(message);
    });
    call.on("error", () => {}); // the status says it too
    call.on("status", (status) => resolve({ messages, status }));
  });
}

async function generate() {
  const request = { prompt: "rain on a tin roof", seconds: 10, steps: 2, seed: 7 };
  const { messages, status } = await streamed(generation.Generate(request, metadata));
  const events = messages.map((message) => message.event);
  const { clip } = events[events.length - 1].clip_ready;
  tell("generated", { code: status.code, events: events.map((event) => event.event), clip });
  return clip;
}

async function watch(clip) {
  const { messages, status } = await streamed(generation.Watch({ clip_id: clip.id }, metadata));
  tell("watched", { code: status.code, events: messages.map((message) => message.event.event) });
}

async function cancel() {
  const call = generation.Generate({ prompt: "rain", seconds: 0.5, steps: 4 }, metadata);
  const { messages, status } = await streamed(call, ({ event }) => {
    if (event.event === "started") {
      asked(generation, "Cancel", { clip_id: event.clip_id }).then(() => tell("cancelling", { clip_id: event.clip_id }));
    }
  });
  const last = messages[messages.length - 1].event;
  const reason = last.failed && last.failed.reason;
  tell("cancelled", { code: status.code, clip_id: last.clip_id, event: last.event, reason });
}

async function leave() {
  const call = generation.Generate({ prompt: "rain", seconds: 0.5, steps: 4 }, metadata);
  const { status } = await streamed(call, () => call.cancel());
  tell("left", { code: status.code });
}

async function download(clip, offsetBytes) {
  const call = clips.Download({ clip_id: clip.id, offset_bytes: offsetBytes }, metadata);
  const { messages, status } = await streamed(call);
  const [{ header }, ...chunks] = messages;
  return { code: status.code, header, chunks: chunks.map((message) => message.chunk) };
}

async function downloadInTwoParts(clip) {
  const whole = await download(clip, 0);
  const have = Buffer.concat(whole.chunks.slice(0, 1));
  const rest = await download(clip, have.length);
  const data = Buffer.concat([have, ...rest.chunks]);
  fs.writeFileSync(wav, data);
  tell("downloaded", {
    codes: [whole.code, rest.code],
    header: whole.header,
    sizes: whole.chunks.map((chunk) => chunk.length),
    sha256: crypto.createHash("sha256").update(data).digest("hex"),
    same: Buffer.concat(whole.chunks).equals(data),
  });
}

async function refused() {
  const { status } = await streamed(generation.Generate({ prompt: "", seconds: -1 }, metadata));
  const details = status.metadata.get("grpc-status-details-bin");
  tell("refused", { code: status.code, details: details.map((bytes) => bytes.toString("base64")) });
}

async function main() {
  const clip = await generate();
  await watch(clip);
  await cancel();
  await leave();
  await downloadInTwoParts(clip);
  await refused();
}

main().then(
  () => process.exit(0),
  (error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  },
);
