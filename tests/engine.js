// The page's scripts in Node, for `javascript.py`: a call is a line of JSON, and so is its result. An
// array has its numbers as bytes in base64.
"use strict";
const [fs, vm] = [require("fs"), require("vm")];
for (const path of process.argv.slice(2)) vm.runInThisContext(fs.readFileSync(path, "utf8"), path);

function receive() {
  const [buffer, parts] = [Buffer.alloc(2 ** 16), []];
  do {
    const length = fs.readSync(0, buffer);
    if (length === 0) process.exit();
    parts.push(buffer.toString("latin1", 0, length)); // JSON in ASCII
  } while (!parts.at(-1).endsWith("\n"));
  const line = parts.join("");
  return JSON.parse(line, (_, each) =>
    each?.data ? { shape: each.shape, values: values(each.data) } : each);
}

function values(data) {
  return new Float64Array(new Uint8Array(Buffer.from(data, "base64")).buffer);
}

function send(value) {
  const text = JSON.stringify(value, (_, each) =>
    each?.shape ? { shape: each.shape, data: bytes(each.values).toString("base64") } : each);
  for (let rest = Buffer.from(`${text}\n`); rest.length; ) rest = rest.subarray(fs.writeSync(1, rest));
}

function bytes({ buffer, byteOffset, byteLength }) {
  return Buffer.from(buffer, byteOffset, byteLength);
}

function choose(values) {
  send({ logits: { shape: [values.length], values } });
  return receive();
}

for (;;) {
  const { name, values } = receive();
  const given = values.map((each) => (each === "choose" ? choose : each));
  send({ result: vm.runInThisContext(name)(...given) ?? null, values: given });
}
