// The plain recurrent network in Rust, without a crate: forward, gradients, clip, SGD and training.
//
// It answers the test vectors that it implements, and trains in exact mode:
//
//     rnn-scratch vectors vectors.txt
//     rustc -O rnn.rs && ./rnn vectors.txt answers.txt
//     rnn-scratch check answers.txt
//
// Sizes: B (batch), T (time steps), V (vocabulary), H (hidden units). Matrices are row-major.
use std::{collections::BTreeMap, env, fmt::Write, fs, process};

const NAMES: [&str; 5] = ["W_xh", "W_hh", "b_h", "W_hq", "b_q"];
const TESTS: [&str; 16] = [
    "common/loss", "common/loss-large", "common/loss-far", "common/gradients-large",
    "common/clip-above", "common/clip-below", "common/clip-zero", "common/sgd",
    "rnn/cell", "rnn/step", "rnn/forward", "rnn/gradients",
    "rnn-one/cell", "rnn-one/step", "rnn-one/forward", "rnn-one/gradients",
];

#[derive(Clone)]
struct Array {
    shape: Vec<usize>,
    values: Vec<f64>,
}
type Arrays = BTreeMap<String, Array>;

impl Array {
    fn zeros(shape: &[usize]) -> Array {
        Array { shape: shape.to_vec(), values: vec![0.0; shape.iter().product()] }
    }

    fn row(&self, i: usize) -> &[f64] {
        let n = self.shape[1];
        &self.values[i * n..(i + 1) * n]
    }

    fn row_mut(&mut self, i: usize) -> &mut [f64] {
        let n = self.shape[1];
        &mut self.values[i * n..(i + 1) * n]
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Array {
        Array { shape: self.shape.clone(), values: self.values.iter().map(|&x| f(x)).collect() }
    }

    fn zip(&self, other: &Array, f: impl Fn(f64, f64) -> f64) -> Array {
        let pairs = self.values.iter().zip(&other.values);
        Array { shape: self.shape.clone(), values: pairs.map(|(&x, &y)| f(x, y)).collect() }
    }

    fn transposed(&self) -> Array {
        let (m, n) = (self.shape[0], self.shape[1]);
        let values = (0..m * n).map(|i| self.values[i % m * n + i / m]).collect();
        Array { shape: vec![n, m], values }
    }

    fn times(&self, other: &Array) -> Array {
        let mut product = Array::zeros(&[self.shape[0], other.shape[1]]);
        for i in 0..self.shape[0] {
            let sums = product.row_mut(i);
            for (p, x) in self.row(i).iter().enumerate() {
                sums.iter_mut().zip(other.row(p)).for_each(|(sum, y)| *sum += x * y);
            }
        }
        product
    }
}

// Add each value to the sum at the same position.
fn add(sums: &mut [f64], values: &[f64]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
}

fn cell(tokens: &[usize], h: &Array, params: &Arrays) -> Array {
    let mut z = h.times(&params["W_hh"]);
    for (b, &token) in tokens.iter().enumerate() {
        add(z.row_mut(b), params["W_xh"].row(token)); // a one-hot vector times W_xh
        add(z.row_mut(b), &params["b_h"].values);
    }
    z.map(f64::tanh)
}

fn output(h: &Array, params: &Arrays) -> Array {
    let mut logits = h.times(&params["W_hq"]);
    for b in 0..h.shape[0] {
        add(logits.row_mut(b), &params["b_q"].values);
    }
    logits
}

// `steps` has the tokens of each time step. Return T logits (B, V) and T + 1 states (B, H).
fn forward(steps: &[Vec<usize>], h: &Array, params: &Arrays) -> (Vec<Array>, Vec<Array>) {
    let mut states = vec![h.clone()];
    for tokens in steps {
        states.push(cell(tokens, states.last().unwrap(), params));
    }
    (states[1..].iter().map(|h| output(h, params)).collect(), states)
}

// Return the sum of the rows' losses and its gradient with respect to the logits.
fn loss(logits: &Array, targets: &[usize]) -> (f64, Array) {
    let (mut total, mut d_logits) = (0.0, Array::zeros(&logits.shape));
    for (i, &target) in targets.iter().enumerate() {
        let (row, grad) = (logits.row(i), d_logits.row_mut(i));
        let largest = row.iter().cloned().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|y| (y - largest).exp()).sum();
        total += sum.ln() - (row[target] - largest);
        grad.iter_mut().zip(row).for_each(|(g, y)| *g = (y - largest).exp() / sum);
        grad[target] -= 1.0;
    }
    (total, d_logits)
}

fn get<'a>(arrays: &'a mut Arrays, name: &str) -> &'a mut Array {
    arrays.get_mut(name).unwrap()
}

// Return the mean loss, the gradients and the last state.
fn gradients(
    steps: &[Vec<usize>], targets: &[Vec<usize>], h: &Array, params: &Arrays,
) -> (f64, Arrays, Array) {
    let (logits, states) = forward(steps, h, params);
    let (w_hh_t, w_hq_t) = (params["W_hh"].transposed(), params["W_hq"].transposed());
    let count = (steps.len() * steps[0].len()) as f64;
    let (mut total, mut grads) = (0.0, map(params, |_| 0.0));
    let mut d_next = Array::zeros(&h.shape); // the next step's gradient of its first state
    for t in (0..steps.len()).rev() {
        let (sum, d_logits) = loss(&logits[t], &targets[t]);
        total += sum;
        let d_y = d_logits.map(|x| x / count);
        let d_h = d_y.times(&w_hq_t).zip(&d_next, |x, y| x + y);
        let d_z = d_h.zip(&states[t + 1], |d, h| d * (1.0 - h * h));
        add(&mut get(&mut grads, "W_hq").values, &states[t + 1].transposed().times(&d_y).values);
        add(&mut get(&mut grads, "W_hh").values, &states[t].transposed().times(&d_z).values);
        for (b, &token) in steps[t].iter().enumerate() {
            add(&mut get(&mut grads, "b_q").values, d_y.row(b));
            add(&mut get(&mut grads, "b_h").values, d_z.row(b));
            add(get(&mut grads, "W_xh").row_mut(token), d_z.row(b));
        }
        d_next = d_z.times(&w_hh_t);
    }
    (total / count, grads, states.last().unwrap().clone())
}

fn clip(grads: &Arrays, theta: f64) -> (Arrays, f64) {
    let norm = grads.values().flat_map(|grad| &grad.values).map(|x| x * x).sum::<f64>().sqrt();
    let scale = if norm > theta { theta / norm } else { 1.0 };
    (map(grads, |x| x * scale), norm)
}

fn sgd(params: &Arrays, grads: &Arrays, lr: f64) -> Arrays {
    let update = |name: &String, p: &Array| p.zip(&grads[name], |p, g| p - lr * g);
    params.iter().map(|(name, p)| (name.clone(), update(name, p))).collect()
}

fn map(arrays: &Arrays, f: impl Fn(f64) -> f64 + Copy) -> Arrays {
    arrays.iter().map(|(name, array)| (name.clone(), array.map(f))).collect()
}

// Round to the nearest multiple of a grid, with ties to even.
fn to_grid(x: f64, grid: f64) -> f64 {
    (x / grid).round_ties_even() * grid
}

// Test vectors: inputs by place, which is the ID of a test or the name of a group, and by name.
struct Vectors(BTreeMap<String, Arrays>);

impl Vectors {
    fn read(text: &str) -> Vectors {
        let mut inputs = BTreeMap::<String, Arrays>::new();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            if words[1] == "input" {
                let (axes, rest) = (words[3].parse().unwrap(), &words[4..]);
                let shape: Vec<usize> = rest[..axes].iter().map(|n| n.parse().unwrap()).collect();
                let values = rest[axes..].iter().map(|x| x.parse().unwrap()).collect();
                let place = inputs.entry(words[0].to_string()).or_default();
                place.insert(words[2].to_string(), Array { shape, values });
            }
        }
        Vectors(inputs)
    }

    fn get(&self, id: &str, name: &str) -> &Array {
        let own = self.0.get(id).and_then(|inputs| inputs.get(name));
        own.unwrap_or_else(|| &self.0[id.split('/').next().unwrap()][name])
    }

    fn number(&self, id: &str, name: &str) -> f64 {
        self.get(id, name).values[0]
    }

    fn all(&self, id: &str, prefix: &str) -> Arrays {
        let get = |name: &str| self.get(id, &format!("{prefix}{name}")).clone();
        NAMES.iter().map(|name| (name.to_string(), get(name))).collect()
    }

    // Return each column of an array of tokens.
    fn steps(&self, id: &str, name: &str) -> Vec<Vec<usize>> {
        let columns = self.get(id, name).transposed();
        let tokens = |t| columns.row(t).iter().map(|&x| x as usize).collect();
        (0..columns.shape[0]).map(tokens).collect()
    }
}

fn write(answers: &mut String, id: &str, name: &str, shape: &[usize], values: &[f64]) {
    write!(answers, "{id} output {name} {}", shape.len()).unwrap();
    shape.iter().for_each(|size| write!(answers, " {size}").unwrap());
    values.iter().for_each(|value| write!(answers, " {value:e}").unwrap());
    answers.push('\n');
}

fn write_all(answers: &mut String, id: &str, prefix: &str, arrays: &Arrays) {
    for (name, array) in arrays {
        write(answers, id, &format!("{prefix}{name}"), &array.shape, &array.values);
    }
}

// Train in exact mode, which rounds parameters, gradients and the state that is carried.
fn train(vectors: &Vectors, answers: &mut String) {
    let id = "training";
    let number = |name| vectors.number(id, name);
    let (scale, lr, theta) = (number("scale"), number("lr"), number("theta"));
    let (batch, steps) = (number("batch_size") as usize, number("num_steps") as usize);
    let mut params = map(&vectors.all(id, ""), |x| x * scale);
    let tokens: Vec<usize> = vectors.get(id, "tokens").values.iter().map(|&x| x as usize).collect();
    for (epoch, &offset) in vectors.get(id, "offsets").values.iter().enumerate() {
        let offset = offset as usize;
        let n = (tokens.len() - offset - 1) / batch;
        let column = |t| (0..batch).map(|b| tokens[offset + b * n + t]).collect::<Vec<usize>>();
        let mut h = Array::zeros(&[batch, params["W_hh"].shape[0]]);
        for first in (0..=n - steps).step_by(steps) {
            let columns: Vec<Vec<usize>> = (first..=first + steps).map(column).collect();
            let (_, grads, last) = gradients(&columns[..steps], &columns[1..], &h, &params);
            let grads = map(&clip(&grads, theta).0, |x| to_grid(x, 1.0 / 65536.0));
            params = map(&sgd(&params, &grads, lr), |x| to_grid(x, 1.0 / 65536.0));
            h = last.map(|x| to_grid(x, 1.0 / 1024.0));
        }
        write_all(answers, &format!("training/{}", epoch + 1), "", &params);
    }
}

fn answer(vectors: &Vectors, id: &str, answers: &mut String) {
    let (params, h) = (vectors.all(id, ""), vectors.get(id, "h"));
    let (steps, targets) = (vectors.steps(id, "tokens"), vectors.steps(id, "targets"));
    let function = id.split('/').nth(1).unwrap();
    match function.split('-').next().unwrap() {
        "cell" | "step" => {
            let one_hot = vectors.get(id, "x");
            let token = |b| one_hot.row(b).iter().position(|&x| x == 1.0).unwrap();
            let tokens: Vec<usize> = (0..h.shape[0]).map(token).collect();
            let next = cell(&tokens, h, &params);
            if function == "step" {
                let logits = output(&next, &params);
                write(answers, id, "logits", &logits.shape, &logits.values);
            }
            write(answers, id, "h", &next.shape, &next.values);
        }
        "forward" => {
            let (logits, states) = forward(&steps, h, &params);
            let values: Vec<f64> = logits.iter().flat_map(|y| y.values.clone()).collect();
            let shape = [steps.len() * h.shape[0], logits[0].shape[1]];
            write(answers, id, "logits", &shape, &values);
            write(answers, id, "h", &h.shape, &states.last().unwrap().values);
        }
        "loss" => {
            let labels = targets.concat();
            let mean = loss(vectors.get(id, "logits"), &labels).0 / labels.len() as f64;
            write(answers, id, "loss", &[], &[mean]);
        }
        "gradients" => {
            let (mean, grads, last) = gradients(&steps, &targets, h, &params);
            write(answers, id, "loss", &[], &[mean]);
            write_all(answers, id, "grad.", &grads);
            write(answers, id, "h", &last.shape, &last.values);
        }
        "clip" => {
            let grads = vectors.all(id, "grad.");
            let (clipped, norm) = clip(&grads, vectors.number(id, "theta"));
            write(answers, id, "norm", &[], &[norm]);
            write_all(answers, id, "grad.", &clipped);
        }
        _ => {
            let (grads, factors) = (vectors.all(id, "grad."), vectors.get(id, "factors"));
            let rates = vectors.get(id, "lr").values.iter().zip(&factors.values);
            let params = rates.fold(params, |p, (lr, f)| sgd(&p, &map(&grads, |g| f * g), *lr));
            write_all(answers, id, "", &params);
        }
    }
}

fn main() {
    let paths: Vec<String> = env::args().collect();
    if paths.len() != 3 {
        eprintln!("usage: ./rnn vectors.txt answers.txt");
        process::exit(2);
    }
    let vectors = Vectors::read(&fs::read_to_string(&paths[1]).expect("vectors"));
    let mut answers = String::new();
    TESTS.iter().for_each(|id| answer(&vectors, id, &mut answers));
    train(&vectors, &mut answers);
    fs::write(&paths[2], answers).expect("answers");
}
