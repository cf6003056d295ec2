// Training in a separate thread: handle the page's requests, and report progress.
"use strict";

const SAMPLE_LENGTH = 50; // characters
const OFTEN = 250; // milliseconds between reports of progress within an epoch
let training, prefix, shown, last_epoch;
let loop = 0; // identifier of the active loop; a stop increments it

const ASKED = {
  begin({ settings, text, prefix: own, usual, name }) {
    training = begin(settings, text);
    [shown, last_epoch] = [name, settings.num_epochs];
    const known = [...own].every((each) => training.vocab.includes(each));
    // If the vocabulary lacks the default prefix, use the most frequent character, as `train` does.
    prefix = own === usual && !known ? [1] : prefix_of(own, training.vocab);
    postMessage({ begun: { names: shapes(training.model.options), vocab: training.vocab } });
    return go();
  },
  go,
  stop: () => (loop += 1),
  show({ name }) {
    shown = name;
    picture();
  },
  change_rate: ({ lr }) => (training.settings.lr = lr),
  change_weight({ name, index, value }) {
    const { shape, values } = training.model.params[name];
    values[index[0] * (shape[1] ?? 1) + (index[1] ?? 0)] = value;
    picture();
  },
};

onmessage = ({ data: { ask, ...more } }) => guarded(() => ASKED[ask](more));

// Call a function; if it throws an Error, send the message to the page.
async function guarded(function_of) {
  try {
    await function_of();
  } catch (error) {
    loop += 1;
    postMessage({ error: error.message });
  }
}

async function go() {
  const own = (loop += 1);
  let pictured = 0;
  while (own === loop) {
    const ended = advance(training);
    if (ended) end_epoch();
    if (ended || performance.now() - pictured > OFTEN) {
      picture();
      pictured = performance.now(); // excludes the drawing, which takes as long as a minibatch
      await new Promise((resolve) => setTimeout(resolve)); // let the thread handle pending requests
    }
  }
}

function end_epoch() {
  const { epoch, losses, model, settings, vocab } = training;
  const loss = losses.reduce((sum, each) => sum + each, 0) / losses.length;
  const choose = (logits) => logits.indexOf(Math.max(...logits));
  const sample = predict(model, prefix, SAMPLE_LENGTH, choose).map((each) => vocab[each]).join("");
  const found = settings.exact ? digest(everything(model)) : null;
  postMessage({ epoch: { epoch, loss, sample, digest: found } });
  begin_epoch(training);
  if (epoch < last_epoch) return;
  loop += 1;
  postMessage({ ended: true });
}

// Post the epoch's progress and a preview of the next minibatch: the final state of its first row,
// and the gradient of a parameter.
function picture() {
  const { epoch, batches, losses, model, settings } = training;
  const batch = batches[losses.length];
  const carry = settings.sampling === "sequential" && training.last;
  const before = carry ? training.last : state(batch.X.length, model.options);
  const [, grads, after] = gradients(model, batch, before);
  const [, norm] = clip(grads, settings.theta);
  postMessage({ picture: {
    epoch, done: losses.length, total: batches.length, norm, theta: settings.theta, name: shown,
    state: after.map((each) => row(each, 0).slice()), value: model.params[shown],
    gradient: grads[shown],
  } });
}
