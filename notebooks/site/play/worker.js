// Training in a separate thread: handle the page's requests, and report progress.
"use strict";

const SAMPLE_LENGTH = 50; // characters
const PREVIEW_INTERVAL = 250; // milliseconds between previews within an epoch
let training, prefix, parameter_name, last_epoch;
let active_loop = 0; // identifier of the active loop; a stop increments it

const HANDLERS = {
  begin({ settings, text, prefix: prefix_text, default_prefix, name }) {
    training = begin(settings, text);
    [parameter_name, last_epoch] = [name, settings.num_epochs];
    const is_encodable = [...prefix_text].every((c) => training.vocab.includes(c));
    // If the vocabulary lacks the default prefix, use the most frequent character, as `train` does.
    const use_default = prefix_text === default_prefix && !is_encodable;
    prefix = use_default ? [1] : encode_prefix(prefix_text, training.vocab);
    postMessage({ start: { names: shapes(training.model.options), vocab: training.vocab } });
    return go();
  },
  go,
  stop: () => (active_loop += 1),
  show({ name }) {
    parameter_name = name;
    post_preview();
  },
  change_rate: ({ lr }) => (training.settings.lr = lr),
  change_weight({ name, index, value }) {
    const { shape, values } = training.model.params[name];
    values[index[0] * (shape[1] ?? 1) + (index[1] ?? 0)] = value;
    post_preview();
  },
};

onmessage = ({ data: { request, ...inputs } }) => post_error(() => HANDLERS[request](inputs));

// Call a function; if it throws an Error, send the message to the page.
async function post_error(action) {
  try {
    await action();
  } catch (error) {
    active_loop += 1;
    postMessage({ error: error.message });
  }
}

async function go() {
  const loop = (active_loop += 1);
  let preview_time = 0;
  while (loop === active_loop) {
    const has_ended = advance(training);
    if (has_ended) end_epoch();
    if (has_ended || performance.now() - preview_time > PREVIEW_INTERVAL) {
      post_preview();
      preview_time = performance.now(); // excludes the preview itself, which takes as long as a minibatch
      await new Promise((resolve) => setTimeout(resolve)); // let the thread handle requests
    }
  }
}

function end_epoch() {
  const { epoch, losses, model, settings, vocab } = training;
  const loss = losses.reduce((sum, value) => sum + value, 0) / losses.length;
  const choose_token = (logits) => logits.indexOf(Math.max(...logits));
  const tokens = predict(model, prefix, SAMPLE_LENGTH, choose_token);
  const sample = tokens.map((token) => vocab[token]).join("");
  const epoch_digest = settings.exact ? digest(trained_arrays(model)) : null;
  postMessage({ epoch: { epoch, loss, sample, digest: epoch_digest } });
  begin_epoch(training);
  if (epoch < last_epoch) return;
  active_loop += 1;
  postMessage({ end: true });
}

// Post the epoch's progress and a preview of the next minibatch: the final state of its first row,
// and the gradient of a parameter.
function post_preview() {
  const { epoch, batches, losses, model, settings } = training;
  const batch = batches[losses.length];
  const carry = settings.sampling === "sequential" && training.last;
  const first = carry ? training.last : state(batch.X.length, model.options);
  const [, grads, last] = gradients(model, batch, first);
  const [, norm] = clip(grads, settings.theta);
  postMessage({ preview: {
    epoch, index: losses.length, total: batches.length, norm, theta: settings.theta,
    state: last.map((tensor) => row(tensor, 0).slice()), name: parameter_name,
    value: model.params[parameter_name], gradient: grads[parameter_name],
  } });
}
