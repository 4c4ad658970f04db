//! What a model needs to be run, settled from its graph, from what was said, and from a preset.

use std::fmt;
use std::path::Path;

use contract::{
    Axis, CHANNELS_FIRST, CHANNELS_LAST, Colour, Decoder, Filter, InputSpec, Orientation, PictureSpec, Resize,
};
use onnx::{DataType, ModelProto};

use super::graph::{self, Port};
use super::preset::Preset;
use super::{shape_text, word};
use crate::DeployError;

/// What is said about a model; nothing of it has to be.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// A project whose models it is one of.
    pub preset: Option<Preset>,
    /// Height and width.
    pub size: Option<[usize; 2]>,
    /// Mean for each channel, or one for all.
    pub mean: Option<Vec<f32>>,
    /// Standard deviation for each channel, or one for all.
    pub std: Option<Vec<f32>>,
    /// Values of black and of white.
    pub range: Option<[f32; 2]>,
    /// Order of colours.
    pub colour: Option<Colour>,
    /// Order of axes, as in a contract.
    pub layout: Option<String>,
    /// How pictures are resized.
    pub filter: Option<Filter>,
    /// Output that is the embedding.
    pub output: Option<String>,
    /// Whether the features of the mirrored picture are added.
    pub flip: bool,
    /// Name of the network, in place of the file's.
    pub name: Option<String>,
    /// Licence of data and weights.
    pub licence: Option<String>,
}

/// Something that was settled, and how.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fact {
    /// What.
    pub what: &'static str,
    /// As what.
    pub value: String,
    /// Where it comes from: `graph`, `preset torchreid`, `--mean`.
    pub from: String,
}

/// All that is settled before the model runs.
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) input: InputSpec,
    pub(super) output: String,
    pub(super) flip: bool,
    /// The output has half precision.
    pub(super) half: bool,
    pub(super) facts: Vec<Fact>,
    pub(super) notes: Vec<String>,
}

/// A question, or the value and where it comes from.
type Settled<T> = Option<(T, String)>;

/// Settles what can be.
///
/// # Errors
/// [`DeployError::Unsaid`] with every question that is open; [`DeployError::Adopt`] where something that is said
/// contradicts the graph, or it takes something else than a picture.
pub(super) fn plan(path: &Path, model: &ModelProto, wishes: &Wishes) -> Result<Plan, DeployError> {
    let input = only_input(path, graph::inputs(model))?;
    let mut planner = Planner { path, wishes, facts: Vec::new(), notes: Vec::new(), questions: Vec::new() };
    planner.fact("input", input.text(), "graph".into());
    let shape = planner.picture_shape(&input)?;
    let layout = planner.layout(&input, &shape)?;
    let [batch, one, two, three] = &shape;
    let (channels, sizes) = if layout == CHANNELS_LAST { (three, [one, two]) } else { (one, [two, three]) };
    let size = planner.size(sizes)?;
    let colour = planner.colour(channels)?;
    let filter = planner.choose(
        "filter",
        wishes.filter,
        wishes.preset.map(|preset| preset.filter),
        "--filter bilinear, bicubic, pillow-lanczos, pillow-box or opencv",
        "how pictures are resized (Pillow's and torchvision's bilinear or bicubic, or OpenCV's linear)",
        word,
    );
    // Nobody is asked: what is said nowhere is turned upright, as pictures of all other models are.
    let (orientation, from) = match wishes.preset {
        Some(preset) => (preset.orientation, planner.preset_name()),
        None => (Orientation::Exif, "default".to_owned()),
    };
    planner.fact("orientation", word(&orientation), from);
    let numbers = planner.numbers(model, &input, colour)?;
    let output = planner.output(graph::outputs(model))?;
    let flip = if wishes.flip { "--flip" } else { "default" };
    planner.fact("mirrored", if wishes.flip { "added" } else { "not added" }.into(), flip.into());
    let Planner { facts, notes, questions, .. } = planner;
    let (Some(size), Some(colour), Some(filter), Some(numbers), Some(output), true) =
        (size, colour, filter, numbers, output, questions.is_empty())
    else {
        let presets = if wishes.preset.is_some() { String::new() } else { Preset::names() };
        return Err(DeployError::Unsaid { path: path.to_owned(), questions, presets });
    };
    let picture = PictureSpec {
        layout: layout.into(),
        colour,
        range: numbers.range,
        mean: numbers.mean,
        std: numbers.std,
        decoder: Decoder::LibjpegTurbo,
        orientation,
        resize: Resize::Stretch,
        filter,
        size,
    };
    let meaning = wishes.preset.map_or_else(|| "adopted".to_owned(), |preset| format!("adopted as of {}", preset.name));
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let batch = match batch {
        Axis::Symbol(_) => Axis::Symbol("batch".into()),
        fixed => fixed.clone(),
    };
    Ok(Plan {
        name: wishes.name.clone().unwrap_or(stem),
        input: InputSpec { meaning, ..InputSpec::picture(&input.name, batch, picture) },
        output: output.name,
        flip: wishes.flip,
        half: output.element == DataType::Float16,
        facts,
        notes,
    })
}

/// How a pixel becomes a value.
struct Numbers {
    range: [f32; 2],
    mean: Vec<f32>,
    std: Vec<f32>,
}

fn only_input(path: &Path, mut inputs: Vec<Port>) -> Result<Port, DeployError> {
    if inputs.len() == 1 {
        return Ok(inputs.swap_remove(0));
    }
    let names: Vec<String> = inputs.iter().map(Port::text).collect();
    let problem = format!(
        "it takes {} inputs ({}), and one picture is adopted; docs/contract.md says how a contract for it is written",
        inputs.len(),
        names.join(", ")
    );
    Err(DeployError::Adopt { path: path.to_owned(), problem })
}

struct Planner<'a> {
    path: &'a Path,
    wishes: &'a Wishes,
    facts: Vec<Fact>,
    notes: Vec<String>,
    questions: Vec<String>,
}

impl Planner<'_> {
    fn refuse<T>(&self, problem: String) -> Result<T, DeployError> {
        Err(DeployError::Adopt { path: self.path.to_owned(), problem })
    }

    fn fact(&mut self, what: &'static str, value: String, from: String) {
        self.facts.push(Fact { what, value, from });
    }

    fn ask(&mut self, flag: &str, why: impl fmt::Display) {
        self.questions.push(format!("`{flag}`: {why}"));
    }

    fn preset_name(&self) -> String {
        self.wishes.preset.map_or_else(String::new, |preset| format!("preset {}", preset.name))
    }

    /// What a flag says, else what the preset says, else a question.
    fn choose<T: Copy>(
        &mut self,
        what: &'static str,
        flag: Option<T>,
        preset: Option<T>,
        asks: &str,
        why: &str,
        text: impl Fn(&T) -> String,
    ) -> Option<T> {
        let from = match flag {
            Some(_) => format!("--{what}"),
            None => self.preset_name(),
        };
        let Some(value) = flag.or(preset) else {
            self.ask(asks, why);
            return None;
        };
        self.fact(what, text(&value), from);
        Some(value)
    }

    /// The four axes of a picture.
    fn picture_shape(&self, input: &Port) -> Result<[Axis; 4], DeployError> {
        if ![DataType::Float, DataType::Float16, DataType::Uint8].contains(&input.element) {
            return self.refuse(format!("its input is {}; float32, float16 and uint8 are run", input.text()));
        }
        match input.shape.clone().map(<[Axis; 4]>::try_from) {
            Some(Ok(shape)) => Ok(shape),
            _ => self.refuse(format!(
                "its input is {}; a picture has four axes, [batch, 3, height, width] or [batch, height, width, 3]",
                input.text()
            )),
        }
    }

    fn layout(&mut self, input: &Port, shape: &[Axis; 4]) -> Result<&'static str, DeployError> {
        let may_be = |axis: &Axis| match axis {
            Axis::Size(size) => [1, 3].contains(size),
            Axis::Symbol(_) => false,
        };
        let known = [CHANNELS_FIRST, CHANNELS_LAST];
        let asked = self.wishes.layout.as_ref().and_then(|layout| known.into_iter().find(|known| known == layout));
        let seen = match [&shape[1], &shape[3]].map(may_be) {
            [true, false] => Some(CHANNELS_FIRST),
            [false, true] => Some(CHANNELS_LAST),
            [true, true] => None,
            [false, false] if shape.iter().skip(1).all(|axis| matches!(axis, Axis::Size(_))) => {
                return self.refuse(format!("its input is {}; pictures have 1 or 3 channels", input.text()));
            }
            [false, false] => None,
        };
        let (layout, from) = match (asked, seen) {
            (Some(asked), Some(seen)) if asked != seen => {
                let asked = asked.to_lowercase();
                return self.refuse(format!("its input is {}, which is not `--layout {asked}`", input.text()));
            }
            (_, Some(seen)) => (seen, "graph".to_owned()),
            (Some(asked), None) => (asked, "--layout".to_owned()),
            // All of these projects keep channels first.
            (None, None) if self.wishes.preset.is_some() => (CHANNELS_FIRST, self.preset_name()),
            (None, None) => {
                self.ask("--layout nchw or nhwc", format!("which axis of {} is the channels", input.text()));
                return Ok(CHANNELS_FIRST);
            }
        };
        self.fact("layout", layout.to_lowercase(), from);
        Ok(layout)
    }

    fn size(&mut self, axes: [&Axis; 2]) -> Result<Option<[usize; 2]>, DeployError> {
        let text = |[height, width]: [usize; 2]| format!("{height}×{width}");
        let fixed = axes.map(|axis| match axis {
            Axis::Size(size) => Some(*size),
            Axis::Symbol(_) => None,
        });
        let settled: Settled<[usize; 2]> = match (fixed, self.wishes.size, self.wishes.preset.and_then(|one| one.size))
        {
            ([Some(height), Some(width)], asked, _) => {
                let size = [height, width];
                if let Some(asked) = asked.filter(|asked| *asked != size) {
                    return self.refuse(format!(
                        "`--size {}` is not that of its graph, which is fixed: {} (height × width)",
                        text(asked),
                        text(size)
                    ));
                }
                Some((size, "graph".into()))
            }
            (fixed, Some(asked), _) => {
                if fixed.iter().zip(asked).any(|(fixed, asked)| fixed.is_some_and(|fixed| fixed != asked)) {
                    let [height, width] = axes.map(|axis| shape_text(std::slice::from_ref(axis)));
                    return self.refuse(format!(
                        "`--size {}` is not that of its graph, height {height} and width {width}",
                        text(asked)
                    ));
                }
                Some((asked, "--size".into()))
            }
            (fixed, None, Some(preset))
                if fixed.iter().zip(preset).all(|(fixed, size)| fixed.is_none_or(|f| f == size)) =>
            {
                Some((preset, self.preset_name()))
            }
            _ => None,
        };
        let Some((size, from)) = settled else {
            self.ask("--size HEIGHTxWIDTH", "its graph takes pictures of any size, and it was trained with one");
            return Ok(None);
        };
        self.fact("size", text(size), from);
        Ok(Some(size))
    }

    fn colour(&mut self, channels: &Axis) -> Result<Option<Colour>, DeployError> {
        let asked = self.wishes.colour;
        let preset = self.wishes.preset.map(|preset| preset.colour);
        if let Axis::Size(channels) = channels {
            if ![1, 3].contains(channels) {
                return self.refuse(format!("its input has {channels} channels; pictures have 1 or 3"));
            }
            if let Some(asked) = asked.filter(|asked| asked.channels() != *channels) {
                return self.refuse(format!("`--colour {}` contradicts its {channels} channels", word(&asked)));
            }
            if *channels == 1 {
                self.fact("colour", word(&Colour::Grey), "graph".into());
                return Ok(Some(Colour::Grey));
            }
        }
        let why = "the order of its three channels (OpenCV reads bgr, Pillow and torchvision rgb)";
        Ok(self.choose("colour", asked, preset, "--colour rgb or bgr", why, word))
    }

    /// How a pixel becomes a value.
    fn numbers(
        &mut self,
        model: &ModelProto,
        input: &Port,
        colour: Option<Colour>,
    ) -> Result<Option<Numbers>, DeployError> {
        let wishes = self.wishes;
        let Wishes { preset, mean, std, range, .. } = wishes;
        let channels = colour.map_or(3, Colour::channels);
        for (flag, values) in [("--mean", mean), ("--std", std)] {
            if let Some(values) = values.as_ref().filter(|values| ![1, channels].contains(&values.len())) {
                let found = values.len();
                return self
                    .refuse(format!("`{flag}` has {found} values; 1 or {channels}, one per channel, are allowed"));
            }
        }
        let inside = graph::normalisation(model, &input.name);
        // What graph and preset say together: of uint8 nothing else is possible.
        let plain = Some(([0.0, 255.0], vec![0.0; channels], vec![1.0; channels]));
        let (known, from) = match (&inside, preset) {
            _ if input.element == DataType::Uint8 => (plain, "graph: uint8 is pixels as they are".to_owned()),
            (Some(steps), Some(preset)) if preset.in_graph => {
                (plain, format!("graph, which normalises ({steps}), as {} exports it", self.preset_name()))
            }
            (None, Some(preset)) if channels == 3 => {
                let [mean, std] = preset.mean_std.map(Vec::from);
                (Some((preset.range, mean, std)), self.preset_name())
            }
            _ => (None, String::new()),
        };
        let each = |values: &Vec<f32>| match values[..] {
            [one] => vec![one; channels],
            _ => values.clone(),
        };
        let (known_range, known_mean, known_std) = match known {
            Some((range, mean, std)) => (Some(range), Some(mean), Some(std)),
            None => (None, None, None),
        };
        let mut settled = |what: &'static str, flag: bool, text: Option<String>| match text {
            Some(text) => {
                let from = if flag { format!("--{what}") } else { from.clone() };
                self.fact(what, text, from);
            }
            None => {
                let flags = match what {
                    "range" => "--range 0,1 or 0,255 or -1,1",
                    "mean" => "--mean M or R,G,B",
                    _ => "--std S or R,G,B",
                };
                let why = match (what, &inside) {
                    ("range", Some(steps)) => format!(
                        "its graph normalises by itself ({steps}); what values of black and white does it begin with? \
                         Where nothing else is done before it, `--mean 0 --std 1` go with this"
                    ),
                    ("range", None) => "values of black and white before mean and deviation".to_owned(),
                    ("mean", _) => "what is subtracted from each channel, in units of the range; 0 for nothing".into(),
                    _ => "what each channel is divided by, in units of the range; 1 for nothing".to_owned(),
                };
                self.ask(flags, why);
            }
        };
        let list = |values: &Vec<f32>| values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
        let text = |[black, white]: [f32; 2]| format!("{black} to {white}");
        let numbers =
            (range.or(known_range), mean.as_ref().map(each).or(known_mean), std.as_ref().map(each).or(known_std));
        settled("range", range.is_some(), numbers.0.map(text));
        settled("mean", mean.is_some(), numbers.1.as_ref().map(list));
        settled("std", std.is_some(), numbers.2.as_ref().map(list));
        let (Some(range), Some(mean), Some(std)) = numbers else { return Ok(None) };
        let is_plain = range == [0.0, 255.0] && mean.iter().all(|m| *m == 0.0) && std.iter().all(|s| *s == 1.0);
        if input.element == DataType::Uint8 && !is_plain {
            return self.refuse(
                "its input is uint8, which takes pixels as they are: `--range 0,255 --mean 0 --std 1`, or none of \
                 these flags"
                    .into(),
            );
        }
        Ok(Some(Numbers { range, mean, std }))
    }

    fn output(&mut self, outputs: Vec<Port>) -> Result<Option<Port>, DeployError> {
        let listed = outputs.iter().map(Port::text).collect::<Vec<_>>().join(", ");
        if let Some(wanted) = &self.wishes.output {
            let Some(output) = outputs.into_iter().find(|output| output.name == *wanted) else {
                return self.refuse(format!("`--output {wanted}` is none of its outputs: {listed}"));
            };
            if !output.is_float() {
                return self.refuse(format!("its output is {}; float32 and float16 are read", output.text()));
            }
            self.fact("output", output.text(), "--output".into());
            return Ok(Some(output));
        }
        let several = outputs.len() > 1;
        let mut vectors = outputs.into_iter().filter(|output| output.is_float() && (!several || output.is_vector()));
        match (vectors.next(), vectors.next()) {
            (Some(output), None) => {
                self.fact("output", output.text(), "graph".into());
                if several {
                    let note = format!("output {} is the only vector of several values among {listed}", output.text());
                    self.notes.push(note);
                }
                Ok(Some(output))
            }
            (None, _) => self.refuse(format!("none of its outputs is a vector of float32 or float16: {listed}")),
            (Some(_), Some(_)) => {
                self.ask("--output NAME", format!("which of its outputs is the embedding: {listed}"));
                Ok(None)
            }
        }
    }
}
