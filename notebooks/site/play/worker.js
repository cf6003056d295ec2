// The training in a thread of its own: does what the page asks for, and tells how far it has come.
"use strict";

const SAMPLE_LENGTH = 50; // characters
const OFTEN = 250; // milliseconds between two pictures of the training
let training, prefix, shown, last_epoch;
let loop = 0; // which of the loops may go on: none after a stop

const ASKED = {
  begin({ settings, text, prefix: own, usual, name }) {
    training = begin(settings, text);
    [shown, last_epoch] = [name, settings.num_epochs];
    const known = [...own].every((each) => training.vocab.includes(each));
    // In place of the usual prefix the most frequent character, as `train` does.
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

// Calls a function; what an Error says is for the visitor.
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
      pictured = performance.now(); // for speed: a picture takes as long as a minibatch
      await new Promise((resolve) => setTimeout(resolve)); // until what was asked for is done
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

// How far the epoch has come, and what the next minibatch will do: the state of its first row at
// its end, and the gradient of a parameter.
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
