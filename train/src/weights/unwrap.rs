//! Dictionaries and prefixes around a state dictionary, the copies of weights in a file, and what is no weight.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::TensorData;

use super::StateDict;

/// Dictionaries around a state dictionary in files people exchange, tried in this order.
const WRAPPERS: [&str; 8] =
    ["state_dict", "model_state_dict", "model", "net", "network", "student", "online_model", "params"];

/// What `DataParallel` and `torch.compile` put into keys. No network calls a part so.
const MARKS: [&str; 2] = ["module", "_orig_mod"];

/// Beginnings of keys of a training run that are no weights.
const TRAINING: [&str; 32] = [
    "amp",
    "args",
    "best",
    "callbacks",
    "cfg",
    "config",
    "decay",
    "epoch",
    "global_step",
    "history",
    "hparams",
    "hyper_parameters",
    "initted",
    "iter",
    "iteration",
    "log",
    "loops",
    "lr",
    "lr_scheduler",
    "lr_schedulers",
    "meta",
    "n_averaged",
    "native_amp",
    "num_updates",
    "optim",
    "optimizer",
    "optimizers",
    "rng",
    "scaler",
    "scheduler",
    "schedulers",
    "step",
];

/// Most dictionaries and prefixes around weights. A key may have millions of words.
const DEPTH: usize = 8;

/// Which copy of the weights is taken where a file has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Copies {
    /// The moving average of the training's weights (EMA).
    #[default]
    Average,
    /// The weights of the last step.
    Raw,
}

/// How a file's tensors came to their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Dictionaries that were entered, the outermost first.
    pub took: Vec<String>,
    /// Prefixes that were taken off, each once, with their dots.
    pub stripped: Vec<String>,
    /// The copy of the weights that was not taken.
    pub other_copy: Option<String>,
    /// Tensors that the copy taken lacks and the other has.
    pub filled: usize,
    /// What is no weight, by the first word of its keys.
    pub aside: BTreeSet<String>,
    /// Whose keys they had, if those of another project.
    pub project: Option<&'static str>,
}

impl Origin {
    /// Whether the tensors have the keys of their file.
    pub fn is_empty(&self) -> bool {
        self.took.is_empty() && self.stripped.is_empty() && self.project.is_none()
    }
}

/// What was taken and stripped, for people; empty if nothing was.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quoted = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let mut parts = Vec::new();
        if !self.took.is_empty() {
            let mut took = format!("took {}", quoted(&self.took));
            match (&self.other_copy, self.filled) {
                (Some(other), 0) => took += &format!(" and not `{other}`"),
                (Some(other), count) => took += &format!(" and from `{other}` only the {count} tensors that it lacks"),
                (None, _) => {}
            }
            parts.push(took);
        }
        if !self.stripped.is_empty() {
            parts.push(format!("stripped {}", quoted(&self.stripped)));
        }
        if let Some(project) = self.project {
            parts.push(format!("read with the keys of {project}"));
        }
        f.write_str(&parts.join(", "))
    }
}

/// Whether a word or the start of a key of several words begins what a training run keeps besides its weights.
fn is_training_state(key: &str) -> bool {
    TRAINING
        .iter()
        .any(|name| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_'])))
}

/// Whether a dictionary holds what a loss learns, or a metric counts.
fn is_loss(group: &str) -> bool {
    let last = group.rsplit('_').next().unwrap_or(group);
    matches!(last, "criterion" | "loss" | "losses" | "metric" | "metrics" | "centerloss") || group == "loss_fn"
}

/// Whether a dictionary holds a moving average.
fn is_average(group: &str, groups: &BTreeSet<String>) -> bool {
    group.split('_').any(|word| word == "ema") || group == "teacher" && groups.contains("student")
}

/// The rest of a key below the dictionary `group`.
fn below<'a>(key: &'a str, group: &str) -> Option<&'a str> {
    key.strip_prefix(group)?.strip_prefix('.')
}

/// The first word of a key of several.
fn group(key: &str) -> Option<&str> {
    key.split_once('.').map(|(group, _)| group)
}

impl StateDict {
    /// Tensors as they are in a file, without the dictionaries and prefixes that are known to be no part of a network.
    /// What lies beside the weights is set aside when it is state of a training run; otherwise it stays, for the
    /// report to name it.
    pub(super) fn unwrapped(tensors: BTreeMap<String, TensorData>, copies: Copies) -> Self {
        let mut state = Self { copies, ..Self::from_iter(tensors) };
        state.strip_marks();
        for _ in 0..DEPTH {
            let Some((wrapper, other)) = state.known_wrapper() else { break };
            state.enter(&wrapper, other.as_deref(), is_training_state);
        }
        state
    }

    /// The same with further prefixes taken off, as long as more of `wanted` is found that way; what `wanted` does not
    /// have and is no weight is set aside.
    #[must_use]
    pub fn fitted_to(mut self, wanted: &BTreeSet<String>) -> Self {
        let no_weight = |key: &str| {
            !wanted.contains(key)
                && (is_training_state(key) || group(key).is_some_and(is_loss) || key.ends_with("centers"))
        };
        for _ in 0..DEPTH {
            let Some((prefix, other)) = self.fitting_prefix(wanted) else { break };
            self.enter(&prefix, other.as_deref(), no_weight);
        }
        let (stays, aside): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.tensors).into_iter().partition(|(key, _)| !no_weight(key));
        self.tensors = stays;
        self.origin.aside.extend(aside.keys().map(|key| group(key).unwrap_or(key).to_owned()));
        self
    }

    /// The same under a network's own keys: `theirs` says what a tensor is called in the files of `project`, where it
    /// is there. What the network does not have keeps its key.
    #[must_use]
    pub fn respelled(
        self,
        own: &BTreeSet<String>,
        project: &'static str,
        theirs: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let names: BTreeMap<String, &String> = own.iter().filter_map(|key| Some((theirs(key)?, key))).collect();
        let mut state = self.fitted_to(&names.keys().cloned().collect());
        let respelled = |(key, data)| (names.get(&key).map_or(key, |own| (*own).clone()), data);
        state.tensors = state.tensors.into_iter().map(respelled).collect();
        state.origin.project = Some(project);
        state
    }

    /// Takes a tensor out that is no weight; it is reported as set aside.
    pub fn set_aside(&mut self, key: &str) -> Option<TensorData> {
        let data = self.tensors.remove(key)?;
        self.origin.aside.insert(key.to_owned());
        Some(Arc::unwrap_or_clone(data))
    }

    fn groups(&self) -> BTreeSet<String> {
        self.tensors.keys().filter_map(|key| group(key)).map(str::to_owned).collect()
    }

    /// Takes the marks off keys wherever they stand. A key that is there with and without them keeps them.
    fn strip_marks(&mut self) {
        let marked = |key: &String| key.split('.').any(|word| MARKS.contains(&word));
        let keys: Vec<String> = self.tensors.keys().filter(|key| marked(key)).cloned().collect();
        for key in keys {
            let words: Vec<&str> = key.split('.').filter(|word| !MARKS.contains(word)).collect();
            let bare = words.join(".");
            if words.is_empty() || self.tensors.contains_key(&bare) {
                continue;
            }
            let data = self.tensors.remove(&key).expect("it is one of the keys");
            self.tensors.insert(bare, data);
            for mark in key.split('.').filter(|word| MARKS.contains(word)) {
                self.stripped(mark);
            }
        }
    }

    fn stripped(&mut self, prefix: &str) {
        let prefix = format!("{prefix}.");
        if !self.origin.stripped.contains(&prefix) {
            self.origin.stripped.push(prefix);
        }
    }

    /// The dictionary to enter, and the other copy of it, without knowing the network.
    fn known_wrapper(&self) -> Option<(String, Option<String>)> {
        let groups = self.groups();
        let raw = WRAPPERS.iter().map(|&name| name.to_owned()).find(|name| groups.contains(name));
        let average = groups.iter().find(|group| is_average(group, &groups)).cloned();
        let average = average.filter(|average| raw.as_ref().is_none_or(|raw| self.is_copy(average, raw)));
        let ours = |key: &String| [&raw, &average].into_iter().flatten().any(|group| below(key, group).is_some());
        let outside: Vec<&String> = self.tensors.keys().filter(|key| !ours(key)).collect();
        let state_only = outside.iter().all(|key| is_training_state(key));
        let sure = match &raw {
            Some(raw) if raw.ends_with("state_dict") => true,
            // `model.` is also what a backbone is called inside some networks: alone it stays.
            Some(raw) if raw == "model" => state_only && (!outside.is_empty() || average.is_some()),
            _ => state_only,
        };
        if sure { self.copy_of(raw, average) } else { None }
    }

    /// Whether two dictionaries hold the same weights of different steps: they share half of their keys.
    fn is_copy(&self, one: &str, other: &str) -> bool {
        let weights = |group: &str| -> BTreeSet<&str> {
            let inner = self.tensors.keys().filter_map(|key| below(key, group));
            inner.filter(|key| key.ends_with("weight")).collect()
        };
        let (one, other) = (weights(one), weights(other));
        2 * one.intersection(&other).count() > other.len()
    }

    /// The copy that is asked for, and the one that is not.
    fn copy_of(&self, raw: Option<String>, average: Option<String>) -> Option<(String, Option<String>)> {
        match (raw, average, self.copies) {
            (Some(raw), Some(average), Copies::Average) => Some((average, Some(raw))),
            (Some(raw), average, _) => Some((raw, average)),
            (None, Some(average), _) => Some((average, None)),
            (None, None, _) => None,
        }
    }

    /// The first word of keys without which most of `wanted` is found, and that of the other copy.
    fn fitting_prefix(&self, wanted: &BTreeSet<String>) -> Option<(String, Option<String>)> {
        let found = self.tensors.keys().filter(|key| wanted.contains(*key)).count();
        let groups = self.groups();
        let mut inner: BTreeMap<&str, usize> = BTreeMap::new();
        for key in self.tensors.keys() {
            if let Some((group, rest)) = key.split_once('.') {
                *inner.entry(group).or_default() += usize::from(wanted.contains(rest));
            }
        }
        let best = |average: bool| {
            let fitting =
                inner.iter().filter(|(group, count)| **count > found && is_average(group, &groups) == average);
            fitting.max_by_key(|(_, count)| **count).map(|(group, _)| (*group).to_owned())
        };
        self.copy_of(best(false), best(true))
    }

    /// Takes the dictionary `name`, and from `other` what it lacks. What lies outside both is set aside where it is no
    /// weight, and otherwise keeps its keys.
    fn enter(&mut self, name: &str, other: Option<&str>, is_no_weight: impl Fn(&str) -> bool) {
        let (mut inside, mut outside, mut second) = (BTreeMap::new(), Vec::new(), Vec::new());
        for (key, data) in std::mem::take(&mut self.tensors) {
            if let Some(rest) = below(&key, name) {
                inside.insert(rest.to_owned(), data);
            } else if let Some(rest) = other.and_then(|other| below(&key, other)) {
                second.push((rest.to_owned(), data));
            } else if is_no_weight(&key) {
                self.origin.aside.insert(group(&key).unwrap_or(&key).to_owned());
            } else {
                outside.push((key, data));
            }
        }
        for (key, data) in second {
            // The average of a training's weights is often kept without the running statistics.
            if let Entry::Vacant(gap) = inside.entry(key) {
                self.origin.filled += 1;
                gap.insert(data);
            }
        }
        for (key, data) in outside {
            let key = if inside.contains_key(&key) { format!("{key} (beside `{name}`)") } else { key };
            inside.insert(key, data);
        }
        self.tensors = inside;
        if let Some(other) = other {
            self.origin.other_copy = Some(other.to_owned());
        }
        if is_dictionary(name) { self.origin.took.push(name.to_owned()) } else { self.stripped(name) }
    }
}

/// Whether a word names a dictionary that scripts put around weights rather than a network's part.
fn is_dictionary(name: &str) -> bool {
    name.ends_with("state_dict")
        || name == "teacher"
        || name.split('_').any(|word| word == "ema")
        || WRAPPERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor of each key that holds the number beside it.
    fn state(entries: &[(&str, f32)], copies: Copies) -> StateDict {
        let tensor = |(key, value): &(&str, f32)| ((*key).to_owned(), TensorData::new(vec![*value], [1]));
        StateDict::unwrapped(entries.iter().map(tensor).collect(), copies)
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn wanted(keys: &[&str]) -> BTreeSet<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    /// Keys with the numbers of their tensors.
    fn found(state: &StateDict) -> Vec<(&str, f32)> {
        state.iter().map(|(key, data)| (key, data.as_slice::<f32>().unwrap()[0])).collect()
    }

    /// Every prefix and wrapper, alone, nested and mixed, around the same two weights.
    #[test]
    fn what_is_around_weights_is_taken_off_and_told() {
        let cases: [(&[&str], &[&str], &[&str]); 14] = [
            (&["conv.weight", "fc.weight"], &[], &[]),
            (&["module.conv.weight", "module.fc.weight"], &[], &["module."]),
            (&["_orig_mod.module.conv.weight", "_orig_mod.module.fc.weight"], &[], &["_orig_mod.", "module."]),
            (&["conv._orig_mod.weight", "module.fc.weight"], &[], &["_orig_mod.", "module."]),
            (&["conv.weight", "module.fc.weight"], &[], &["module."]),
            (&["model.conv.weight", "model.fc.weight"], &["model"], &[]),
            (&["net.model.module.conv.weight", "net.model.module.fc.weight"], &["net", "model"], &["module."]),
            (&["student.conv.weight", "student.fc.weight"], &["student"], &[]),
            (&["ema.module.conv.weight", "ema.module.fc.weight"], &["ema"], &["module."]),
            (&["reid_net.conv.weight", "reid_net.fc.weight"], &[], &["reid_net."]),
            (&["state_dict.conv.weight", "state_dict.fc.weight"], &["state_dict"], &[]),
            (&["state_dict.model.conv.weight", "state_dict.model.fc.weight"], &["state_dict", "model"], &[]),
            (&["model_state_dict.conv.weight", "model_state_dict.fc.weight"], &["model_state_dict"], &[]),
            (&["module.state_dict.conv.weight", "module.state_dict.fc.weight"], &["state_dict"], &["module."]),
        ];
        for ([conv, fc], took, stripped) in cases.map(|(keys, took, stripped)| ([keys[0], keys[1]], took, stripped)) {
            let state = state(&[(conv, 1.0), (fc, 2.0)], Copies::Average);
            let state = state.fitted_to(&wanted(&["conv.weight", "fc.weight"]));
            assert_eq!(found(&state), [("conv.weight", 1.0), ("fc.weight", 2.0)], "{conv}");
            assert_eq!((&state.origin.took[..], &state.origin.stripped[..]), (&owned(took)[..], &owned(stripped)[..]));
            assert!(state.origin.aside.is_empty() && state.origin.other_copy.is_none(), "{conv}");
            assert_eq!(state.origin.is_empty(), took.is_empty() && stripped.is_empty(), "{conv}");
        }
    }

    /// A backbone is called `model` inside some networks.
    #[test]
    fn a_prefix_that_is_part_of_the_network_stays() {
        let own = wanted(&["model.conv.weight", "head.weight"]);
        let plain = [("model.conv.weight", 1.0), ("head.weight", 2.0)];
        assert_eq!(found(&state(&plain, Copies::Average).fitted_to(&own)).len(), 2);
        let headless = state(&plain[..1], Copies::Average).fitted_to(&own);
        assert_eq!(found(&headless), [("model.conv.weight", 1.0)]);
        let wrapped = [("model.model.conv.weight", 1.0), ("model.head.weight", 2.0), ("epoch", 3.0)];
        let wrapped = state(&wrapped, Copies::Average).fitted_to(&own);
        assert_eq!(found(&wrapped), [("head.weight", 2.0), ("model.conv.weight", 1.0)]);
        assert_eq!(wrapped.origin.aside, wanted(&["epoch"]));
    }

    #[test]
    fn of_two_copies_the_average_is_taken_or_the_one_that_is_asked_for() {
        for (raw, average) in [
            ("state_dict", "state_dict_ema"),
            ("state_dict", "ema_state_dict"),
            ("model", "model_ema"),
            ("model", "ema"),
            ("net", "ema"),
            ("model_state_dict", "ema_model_state_dict"),
            ("student", "teacher"),
            ("online_model", "ema_model"),
            ("params", "params_ema"),
        ] {
            let keys = [
                (format!("{raw}.module.bn.weight"), 1.0),
                (format!("{raw}.module.bn.running_var"), 2.0),
                (format!("{average}.module.bn.weight"), 3.0),
                ("optimizer.state.0.exp_avg".to_owned(), 4.0),
            ];
            let keys: Vec<(&str, f32)> = keys.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            let own = wanted(&["bn.weight", "bn.running_var"]);
            let taken = state(&keys, Copies::Average).fitted_to(&own);
            // The average lacks the running statistics.
            assert_eq!(found(&taken), [("bn.running_var", 2.0), ("bn.weight", 3.0)], "{average}");
            assert_eq!((taken.origin.other_copy.as_deref(), taken.origin.filled), (Some(raw), 1));
            assert_eq!(taken.origin.aside, wanted(&["optimizer"]), "{average}");
            assert!(taken.origin.to_string().contains(&format!("`{average}`")), "{}", taken.origin);
            let taken = state(&keys, Copies::Raw).fitted_to(&own);
            assert_eq!(found(&taken), [("bn.running_var", 2.0), ("bn.weight", 1.0)], "{raw}");
            assert_eq!((taken.origin.other_copy.as_deref(), taken.origin.filled), (Some(average), 0));
        }
        // Something else of that name is no copy, and is left over.
        let other = [("state_dict.bn.weight", 1.0), ("ema.shadow", 2.0)];
        let taken = state(&other, Copies::Average).fitted_to(&wanted(&["bn.weight"]));
        assert_eq!(found(&taken), [("bn.weight", 1.0), ("ema.shadow", 2.0)]);
        assert_eq!(taken.origin.other_copy, None);
    }

    /// A checkpoint of Lightning with a loss that learns, callbacks and hyper-parameters.
    #[test]
    fn what_is_no_weight_is_set_aside_by_name_and_nothing_else() {
        let keys = [
            ("state_dict.net.conv.weight", 1.0),
            ("state_dict.criterion.centers", 2.0),
            ("state_dict.center_loss.weight", 2.0),
            ("state_dict.train_metrics.sum", 2.0),
            ("callbacks.ModelCheckpoint.best", 3.0),
            ("hyper_parameters.scale", 4.0),
            ("optimizer_states.0.state.0.step", 5.0),
            ("lr_schedulers.0.base", 6.0),
        ];
        let state = state(&keys, Copies::Average).fitted_to(&wanted(&["conv.weight"]));
        assert_eq!(found(&state), [("conv.weight", 1.0)]);
        let aside = ["center_loss", "criterion", "train_metrics", "callbacks", "hyper_parameters", "optimizer_states"];
        assert_eq!(state.origin.aside, wanted(&[&aside[..], &["lr_schedulers"]].concat()));
        // A network that has a part of such a name keeps it, and unknown parts stay.
        let keys = [("model.conv.weight", 1.0), ("criterion.centers", 2.0), ("neck.weight", 3.0)];
        let kept = super::tests::state(&keys, Copies::Average);
        let own = kept.keys();
        assert_eq!(found(&kept.fitted_to(&own)).len(), 3);
        let kept = super::tests::state(&keys, Copies::Average).fitted_to(&wanted(&["conv.weight"]));
        assert_eq!(found(&kept), [("conv.weight", 1.0), ("neck.weight", 3.0)]);
    }

    /// A key of a million words costs no more than its length.
    #[test]
    fn the_depth_of_wrappers_is_bounded() {
        let long = format!("{}conv.weight", "net.".repeat(1 << 20));
        let state = state(&[(&long, 1.0)], Copies::Average).fitted_to(&wanted(&["conv.weight"]));
        assert_eq!(state.iter().next().unwrap().0.len(), long.len() - 4 * DEPTH);
    }
}
