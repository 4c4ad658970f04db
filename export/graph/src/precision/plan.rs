//! Which nodes are worth integers: what each group of equal nodes gains in time, measured in the whole model, and what
//! each node costs in the outputs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use onnx::{Message, ModelProto};

use super::observe::{Batch, cosine, outputs};
use super::rules::{Candidate, candidates};
use super::{Int8, Prepared, Ranges, integers};
use crate::error::Error;
use crate::run::{Opening, Runtime, Session};

/// What was decided for a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePlan {
    /// The node.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Whether it computes in integers.
    pub integers: bool,
    /// Why.
    pub reason: String,
    /// Time that it saves in integers, as a share of the whole model's in float32: that of its group, divided by the
    /// group's nodes. Negative where integers are slower, `None` where nothing was measured.
    pub gain: Option<f64>,
    /// What it alone in integers takes off the mean cosine of the outputs; `None` where that was not measured.
    pub loss: Option<f64>,
}

/// Decisions for all nodes of a model, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// One for each node.
    pub nodes: Vec<NodePlan>,
}

impl Plan {
    /// The nodes that compute in integers.
    pub fn chosen(&self) -> BTreeSet<String> {
        self.nodes.iter().filter(|node| node.integers).map(|node| node.node.clone()).collect()
    }
}

/// A plan that somebody made before: exactly these nodes, of which `Err` names the first that cannot.
///
/// # Errors
/// The name of a node that is not in the model or has no rule for the target.
pub fn fixed(model: &Prepared, how: &Int8, chosen: &BTreeSet<String>) -> Result<Plan, String> {
    let known: BTreeSet<String> = candidates(model, how.target).into_iter().map(|candidate| candidate.node).collect();
    if let Some(unknown) = chosen.iter().find(|node| !known.contains(*node)) {
        return Err(unknown.clone());
    }
    let reason = |chosen| if chosen { "by the plan given" } else { "not in the plan given" };
    Ok(decided(model, |node, operator| {
        let chosen = chosen.contains(node);
        (chosen, without_rule(operator).filter(|_| !chosen).unwrap_or(reason(chosen)).to_owned(), None, None)
    }))
}

/// What is said of operators that follow their neighbours.
fn without_rule(operator: &str) -> Option<&'static str> {
    match operator {
        "Relu" => Some("part of the node before it, if that computes in integers"),
        "MaxPool" | "Reshape" | "Transpose" | "Flatten" | "Squeeze" | "Unsqueeze" => {
            Some("passes integers on, if the nodes around it have them")
        }
        _ => None,
    }
}

fn decided(model: &Prepared, decide: impl Fn(&str, &str) -> (bool, String, Option<f64>, Option<f64>)) -> Plan {
    let nodes = model.nodes().map(|(node, operator)| {
        let (integers, reason, gain, loss) = decide(node, operator);
        NodePlan { node: node.to_owned(), operator: operator.to_owned(), integers, reason, gain, loss }
    });
    Plan { nodes: nodes.collect() }
}

/// Measures and decides.
pub struct Planner<'a> {
    /// The float32 model.
    pub model: &'a Prepared,
    /// Ranges of its values.
    pub ranges: &'a Ranges,
    /// Target and bits.
    pub how: Int8,
    /// Inputs whose runs are timed, such as one picture and sixteen; each counts the same. None where the target is not
    /// this machine: what can be computed in integers then is.
    pub timed: &'a [Batch],
    /// Inputs whose outputs are compared.
    pub compared: &'a [Batch],
    /// Most timed runs of each model, which take turns; slow models get fewer. The fastest counts.
    pub rounds: usize,
    /// Mean cosine to keep on `compared`.
    pub least_cosine: f64,
    /// ONNX Runtime.
    pub runtime: &'a Runtime,
    /// Told what is being done, and how far it is, from 0 to 1.
    pub progress: &'a dyn Fn(&str, f64),
}

/// A gain below this share of the whole is noise.
const NOISE: f64 = 0.002;

/// A whole that gains less than this share stays float: another run would find it slower.
const WORTH: f64 = 0.03;

/// Fewest runs of a model that are timed; more only while they take no longer together than [`ENOUGH`].
const FEWEST: usize = 3;

/// How long a model runs to be timed, where it is fast.
const ENOUGH: Duration = Duration::from_millis(500);

impl Planner<'_> {
    /// The plan. It starts from the fastest of three: float, all in integers, and all but convolutions of single
    /// channels. Then groups of equal nodes are switched one by one, and stay switched where that is faster; a plan
    /// that is slower than float at any of the timed inputs is not taken, nor one that is slower than a start. Last,
    /// the nodes that cost the most cosine for their gain go back to float until the outputs are close enough, and
    /// with them the groups that are then slower.
    ///
    /// # Errors
    /// If ONNX Runtime fails.
    pub fn plan(&self) -> Result<Plan, Error> {
        let candidates = candidates(self.model, self.how.target);
        let mut groups: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
        for candidate in &candidates {
            groups.entry(&candidate.signature).or_default().push(candidate);
        }
        let all: BTreeSet<&str> = groups.keys().copied().collect();
        let mut on: BTreeSet<&str> = all.iter().copied().filter(|signature| !groups[signature][0].depthwise).collect();
        let names = |on: &BTreeSet<&str>| -> BTreeSet<String> {
            candidates.iter().filter(|c| on.contains(c.signature.as_str())).map(|c| c.node.clone()).collect()
        };
        let mut gains: BTreeMap<&str, f64> = BTreeMap::new();
        let mut float = vec![];
        if !self.timed.is_empty() && !groups.is_empty() {
            let mut starts = vec![BTreeSet::new(), on.clone()];
            if on != all {
                starts.push(all);
            }
            (self.progress)("timing where to start", 0.0);
            let mut sessions =
                starts.iter().map(|on| self.open(&self.with(&names(on)))).collect::<Result<Vec<_>, _>>()?;
            let times = self.race(&mut sessions)?;
            float.clone_from(&times[0]);
            let start = fastest(&times, &float);
            on = starts[start].clone();
            let mut best = sessions.swap_remove(start);
            drop(sessions);
            let mut order: Vec<&str> = groups.keys().copied().collect();
            // Large groups first: what they become decides for the small ones around them.
            order.sort_by_key(|signature| (std::cmp::Reverse(groups[signature].len()), *signature));
            for (done, signature) in order.iter().enumerate() {
                (self.progress)("timing groups of equal nodes", done as f64 / order.len() as f64);
                let mut other = on.clone();
                if !other.remove(signature) {
                    other.insert(signature);
                }
                let mut pair = [best, self.open(&self.with(&names(&other)))?];
                let times = self.race(&mut pair)?;
                let faster = share(&times[0], &float) - share(&times[1], &float);
                gains.insert(signature, if on.contains(signature) { -faster } else { faster });
                let [kept, switched] = pair;
                if faster > NOISE && fits(&times[1], &float) {
                    on = other;
                    best = switched;
                } else {
                    best = kept;
                }
            }
            // Some groups were switched by chance: what became of that has to be faster than where it started.
            let (mut sessions, mut finalists) = (vec![best], vec![on.clone()]);
            for start in starts.into_iter().filter(|start| !start.is_empty() && *start != on) {
                sessions.push(self.open(&self.with(&names(&start)))?);
                finalists.push(start);
            }
            let times = self.race(&mut sessions)?;
            on = finalists.swap_remove(fastest(&times, &float));
        }
        let mut chosen = names(&on);
        let losses = self.losses(&chosen)?;
        let gain = |node: &str| {
            let candidate = candidates.iter().find(|candidate| candidate.node == node)?;
            let signature = candidate.signature.as_str();
            Some(gains.get(signature)? / groups[signature].len() as f64)
        };
        let lossy = self.drop_lossy(&mut chosen, &losses, &gain)?;
        if !lossy.is_empty() && !float.is_empty() {
            self.drop_slow(&mut chosen, groups.values(), &float)?;
        }
        let idle = !chosen.is_empty() && !float.is_empty() && !self.pays(&chosen)?;
        if idle {
            chosen.clear();
        }
        Ok(decided(self.model, |node, operator| {
            let loss = losses.get(node).copied();
            let candidate = candidates.iter().find(|candidate| candidate.node == node);
            let reason = match candidate {
                None => without_rule(operator).unwrap_or("no rule: stays float"),
                Some(_) if chosen.contains(node) && self.timed.is_empty() => "the target computes it in integers",
                Some(_) if chosen.contains(node) => "faster",
                Some(_) if lossy.contains(node) => "costs too much of the outputs",
                Some(_) if idle => "all together are hardly faster",
                Some(candidate) if self.timed.is_empty() && candidate.depthwise => "a convolution of single channels",
                Some(_) => "not faster",
            };
            (chosen.contains(node), reason.to_owned(), gain(node), loss)
        }))
    }

    fn with(&self, chosen: &BTreeSet<String>) -> ModelProto {
        integers(self.model, self.ranges, chosen, &self.how).model
    }

    fn open(&self, model: &ModelProto) -> Result<Session, Error> {
        self.runtime.open(&model.encode_to_vec(), Opening::plain(true))
    }

    /// The fastest run of each model, for each timed input, in seconds; the models take turns.
    fn race(&self, sessions: &mut [Session]) -> Result<Vec<Vec<f64>>, Error> {
        let mut times = vec![vec![]; sessions.len()];
        for batch in self.timed {
            let mut best = vec![Duration::MAX; sessions.len()];
            let began = Instant::now();
            // The first round allocates.
            for round in 0..=self.rounds {
                if round > FEWEST && began.elapsed() > ENOUGH * sessions.len() as u32 {
                    break;
                }
                for (session, best) in sessions.iter_mut().zip(&mut best) {
                    let start = Instant::now();
                    session.visit(batch, &[], |_, _, _| ())?;
                    if round > 0 {
                        *best = (*best).min(start.elapsed());
                    }
                }
            }
            for (times, best) in times.iter_mut().zip(best) {
                times.push(best.as_secs_f64());
            }
        }
        Ok(times)
    }

    /// What each chosen node alone takes off the mean cosine.
    fn losses(&self, chosen: &BTreeSet<String>) -> Result<BTreeMap<String, f64>, Error> {
        // One batch tells which nodes cost more than others.
        let compared = &self.compared[..self.compared.len().min(1)];
        let float = outputs(self.model.model(), compared, self.runtime, true)?;
        let mut losses = BTreeMap::new();
        for (done, node) in chosen.iter().enumerate() {
            (self.progress)("comparing the outputs node by node", done as f64 / chosen.len() as f64);
            // As written: opening takes longer than running, and most of that is optimisation.
            let one = outputs(&self.with(&BTreeSet::from([node.clone()])), compared, self.runtime, false)?;
            losses.insert(node.clone(), 1.0 - mean(&float, &one));
        }
        Ok(losses)
    }

    /// Takes groups out of `chosen` that do not pay: nodes that went back to float leave smaller pieces in integers,
    /// each with conversions at both ends.
    fn drop_slow<'g>(
        &self,
        chosen: &mut BTreeSet<String>,
        groups: impl Iterator<Item = &'g Vec<&'g Candidate>>,
        float: &[f64],
    ) -> Result<(), Error> {
        let mut best = self.open(&self.with(chosen))?;
        for group in groups {
            let rest: BTreeSet<String> =
                chosen.iter().filter(|node| group.iter().all(|candidate| candidate.node != **node)).cloned().collect();
            if rest.len() == chosen.len() {
                continue;
            }
            let mut pair = [best, self.open(&self.with(&rest))?];
            let times = self.race(&mut pair)?;
            let [kept, without_group] = pair;
            if share(&times[0], float) - share(&times[1], float) > NOISE {
                *chosen = rest;
                best = without_group;
            } else {
                best = kept;
            }
        }
        Ok(())
    }

    /// Whether the model is faster than float by [`WORTH`], and at no input slower. Each group was kept for a small
    /// gain that it was seen to have, some of them by chance, so the whole is timed again.
    fn pays(&self, chosen: &BTreeSet<String>) -> Result<bool, Error> {
        let mut pair = [self.open(&self.with(chosen))?, self.open(self.model.model())?];
        let times = self.race(&mut pair)?;
        Ok(fits(&times[0], &times[1]) && share(&times[0], &times[1]) <= 1.0 - WORTH)
    }

    /// Takes the nodes with the largest loss for their gain out of `chosen` until the mean cosine is reached, a tenth
    /// of them at a time; those that were taken out.
    fn drop_lossy(
        &self,
        chosen: &mut BTreeSet<String>,
        losses: &BTreeMap<String, f64>,
        gain: &dyn Fn(&str) -> Option<f64>,
    ) -> Result<BTreeSet<String>, Error> {
        let float = outputs(self.model.model(), self.compared, self.runtime, true)?;
        let mut lossy = BTreeSet::new();
        let rate = |node: &String| losses[node] / gain(node).unwrap_or(1.0).max(NOISE / 100.0);
        let mut order: Vec<String> = chosen.iter().cloned().collect();
        order.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then(a.cmp(b)));
        let step = order.len().div_ceil(10).max(1);
        let mut order = order.into_iter();
        loop {
            let found = mean(&float, &outputs(&self.with(chosen), self.compared, self.runtime, true)?);
            let worst: Vec<String> =
                if found < self.least_cosine { order.by_ref().take(step).collect() } else { vec![] };
            if worst.is_empty() {
                return Ok(lossy);
            }
            for node in worst {
                chosen.remove(&node);
                lossy.insert(node);
            }
        }
    }
}

/// Times as a share of those in float, the mean over the timed inputs.
fn share(times: &[f64], float: &[f64]) -> f64 {
    times.iter().zip(float).map(|(time, float)| time / float).sum::<f64>() / times.len().max(1) as f64
}

/// Which of the models is the fastest of those that [`fits`] allows; the first if it allows none.
fn fastest(times: &[Vec<f64>], float: &[f64]) -> usize {
    let fitting = (0..times.len()).filter(|&at| fits(&times[at], float));
    fitting.min_by(|&a, &b| share(&times[a], float).total_cmp(&share(&times[b], float))).unwrap_or_default()
}

/// Whether no input takes longer than in float.
fn fits(times: &[f64], float: &[f64]) -> bool {
    times.iter().zip(float).all(|(time, float)| time <= float)
}

fn mean(left: &[Vec<Vec<f32>>], right: &[Vec<Vec<f32>>]) -> f64 {
    let rows: Vec<f64> =
        left.iter().flatten().zip(right.iter().flatten()).map(|(left, right)| cosine(left, right)).collect();
    rows.iter().sum::<f64>() / rows.len().max(1) as f64
}
