// Runs the page's scripts in Node.js for `javascript.py`. Calls and results are lines of JSON; the
// values of an array are bytes encoded in base64.
"use strict";
const [fs, vm] = [require("fs"), require("vm")];
for (const path of process.argv.slice(2)) vm.runInThisContext(fs.readFileSync(path, "utf8"), path);

function receive() {
  const [buffer, parts] = [Buffer.alloc(2 ** 16), []];
  do {
    const length = fs.readSync(0, buffer);
    if (length === 0) process.exit();
    parts.push(buffer.toString("latin1", 0, length)); // the JSON is ASCII
  } while (!parts.at(-1).endsWith("\n"));
  const line = parts.join("");
  return JSON.parse(line, (_, value) =>
    value?.data ? { shape: value.shape, values: values(value.data) } : value);
}

function values(data) {
  return new Float64Array(new Uint8Array(Buffer.from(data, "base64")).buffer);
}

function send(value) {
  const text = JSON.stringify(value, (_, item) =>
    item?.shape ? { shape: item.shape, data: bytes(item.values).toString("base64") } : item);
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
  const parameters = values.map((value) => (value === "choose" ? choose : value));
  send({ result: vm.runInThisContext(name)(...parameters) ?? null, values: parameters });
}
