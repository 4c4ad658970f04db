//! The form of a contract's JSON, key by key. What is read is held against it, so that every mistake is told at once;
//! `docs/contract.schema.json` and the tables of `docs/contract.md` are made from it.

use serde_json::{Map, Value, json};

use super::VERSION;

/// Most mistakes that are told.
const MOST: usize = 50;

/// Longest name of a key, in bytes, that is compared with those that are known.
const LONGEST: usize = 64;

/// A wrong key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, `input[0].picture.colour` or, of contradictions, `input[image].std`.
    pub field: String,
    /// What is there, shortened.
    pub found: String,
    /// What is allowed.
    pub allowed: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is {}; {}", self.field, self.found, self.allowed)
    }
}

/// One mistake in a sentence, several in a list.
pub(crate) fn listed(problems: &[Problem]) -> String {
    match problems {
        [one] => format!("the contract's {one}"),
        several => {
            let more = if several.len() < MOST { "" } else { " or more" };
            let lines: String = several.iter().map(|problem| format!("\n  {problem}")).collect();
            format!("the contract has {}{more} mistakes:{lines}", several.len())
        }
    }
}

/// What a value is.
enum Form {
    Text,
    Word(&'static [&'static str]),
    Flag,
    /// From 0 to this.
    Whole(u64),
    /// Also below 0.
    Signed,
    Number,
    /// A size or a symbol.
    Axis,
    /// What a false accept rate counts.
    Rate,
    List(&'static Form),
    Pair(&'static Form),
    /// Any keys.
    Map(&'static Form),
    Object(&'static Object),
}

struct Object {
    /// Heading of its table.
    title: &'static str,
    keys: &'static [Key],
}

struct Key {
    name: &'static str,
    form: Form,
    need: Need,
    about: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Need {
    Required,
    /// Has a default.
    Optional,
    /// May be absent or null.
    Nullable,
}

use Form::{Axis, Flag, List, Number, Pair, Rate, Signed, Text, Whole, Word};
use Need::{Nullable, Optional, Required};

const fn key(name: &'static str, form: Form, need: Need, about: &'static str) -> Key {
    Key { name, form, need, about }
}

const COUNT: Form = Whole(u64::MAX);
const COLOURS: Form = Word(&["rgb", "bgr", "grey"]);
const SHAPE: Form = List(&Axis);
const FILTERS: Form = Word(&[
    "pillow-bilinear",
    "pillow-bicubic",
    "pillow-lanczos",
    "pillow-box",
    "opencv-linear",
    "bilinear",
    "bicubic",
    "opencv",
]);

static CONTRACT: Object = Object {
    title: "The contract",
    keys: &[
        key("version", Whole(u32::MAX as u64), Required, "Version of this format. A reader refuses a newer one."),
        key("family", Text, Required, "Family: `reid`, `senet`, `controlnet`, `palm`; of adopted models `foreign`."),
        key("architecture", Text, Required, "Network by its published name: `LMBN_n`."),
        key("input", List(&Form::Object(&INPUT)), Required, "Inputs, in the graph's order."),
        key("output", List(&Form::Object(&OUTPUT)), Required, "Outputs, in the graph's order; others may be left out."),
        key("embedding", Form::Object(&EMBEDDING), Nullable, "How an output becomes an embedding."),
        key(
            "threshold",
            List(&Form::Object(&THRESHOLD)),
            Nullable,
            "Calibrated thresholds; `deploy calibrate` writes them.",
        ),
        key("golden", Form::Object(&GOLDEN), Nullable, "Known answers for the self-test."),
        key("precision", Text, Required, "Number format of the weights: `fp32`, `fp16`, `int8`."),
        key(
            "quantisation",
            Form::Object(&QUANTISATION),
            Nullable,
            "How it was made smaller than its float32 original.",
        ),
        key("training", Form::Object(&TRAINING), Optional, "Where the weights come from."),
        key("exporter", Form::Object(&EXPORTER), Optional, "What wrote the model file."),
    ],
};

static INPUT: Object = Object {
    title: "`input[]`: an input of the graph",
    keys: &[
        key("name", Text, Required, "Name in the graph."),
        key(
            "shape",
            SHAPE,
            Required,
            "The batch first. A symbol stands for any size; a size may narrow an axis that the graph leaves open.",
        ),
        key("meaning", Text, Optional, "What the values are, with their unit, for people."),
        key("picture", Form::Object(&PICTURE), Nullable, "How a picture becomes this input; absent for plain numbers."),
        key(
            "absent",
            Number,
            Nullable,
            "Value that fills the input when its picture is missing; absent if it is required.",
        ),
        key("range", Pair(&Number), Nullable, "Smallest and largest value of plain numbers."),
    ],
};

static PICTURE: Object = Object {
    title: "`input[].picture`: how a picture becomes an input",
    keys: &[
        key("layout", Word(&["NCHW", "NHWC"]), Required, "Order of the axes in the graph."),
        key("colour", COLOURS, Required, "Order of the channels."),
        key(
            "range",
            Pair(&Number),
            Required,
            "Values of black and of white before mean and std: [0, 1], [-1, 1], [0, 255].",
        ),
        key("mean", List(&Number), Required, "Mean of each channel, in units of `range`."),
        key("std", List(&Number), Required, "Standard deviation of each channel, in units of `range`."),
        key("decoder", Word(&["libjpeg-turbo"]), Optional, "Whose JPEG pixels they are."),
        key(
            "orientation",
            Word(&["exif", "stored"]),
            Optional,
            "Turned and mirrored as the EXIF orientation says, or as it is stored.",
        ),
        key("resize", Word(&["stretch"]), Required, "Both axes are scaled on their own."),
        key(
            "filter",
            FILTERS,
            Required,
            "Pillow's, which widen when a picture shrinks, or OpenCV's linear; short names are of older contracts.",
        ),
        key("size", Pair(&COUNT), Required, "Height and width in pixels, 1 to 8192."),
    ],
};

static OUTPUT: Object = Object {
    title: "`output[]`: an output of the graph",
    keys: &[
        key("name", Text, Required, "Name in the graph."),
        key("meaning", Text, Required, "What the values are, for people."),
        key("shape", SHAPE, Required, "The batch first."),
        key("unit_length", Flag, Required, "Whether each row has length 1."),
        key("metric", Word(&["cosine", ""]), Required, "How rows are compared; empty where they are not."),
        key("picture", Form::Object(&DRAWN), Nullable, "How the values are shown, where they are a picture."),
        key("map", Pair(&COUNT), Nullable, "Height and width of the map that the values form."),
    ],
};

static DRAWN: Object = Object {
    title: "`output[].picture`: an output that is a picture",
    keys: &[
        key("layout", Text, Required, "Order of the axes: `NCHW`."),
        key("colour", COLOURS, Required, "Order of the channels."),
        key("range", Pair(&Number), Required, "Values of black and of white."),
    ],
};

static EMBEDDING: Object = Object {
    title: "`embedding`: how an output becomes an embedding",
    keys: &[
        key("output", Text, Required, "Output it is made from: [batch, values], or [batch, values, parts]."),
        key("dim", COUNT, Required, "Values of a row."),
        key("parts", COUNT, Required, "Parts, each scaled to length 1 on its own; 1 for a plain vector."),
        key("flip", Flag, Required, "Whether the features of the mirrored picture are added."),
        key(
            "contract_id",
            Text,
            Required,
            "Hash of all that changes an embedding; galleries are pinned to it. Computed where it is empty.",
        ),
    ],
};

static THRESHOLD: Object = Object {
    title: "`threshold[]`: a similarity from which two rows count as one person",
    keys: &[
        key("similarity", Number, Required, "Cosine similarity, -1 to 1."),
        key("far", Number, Required, "False accept rate at it, 0 to 1."),
        key("tar", Number, Required, "True accept rate at it, 0 to 1."),
        key(
            "measured",
            Form::Object(&MEASURED),
            Nullable,
            "What the rates are rates of, and on how much they were measured.",
        ),
    ],
};

static MEASURED: Object = Object {
    title: "`threshold[].measured`",
    keys: &[
        key(
            "rate",
            Rate,
            Required,
            "What is counted: comparisons with a person, or searches in a gallery of so many people.",
        ),
        key("fusion", Word(&["max", "mean"]), Required, "How the similarities to a person's templates become one."),
        key("templates", Whole(u32::MAX as u64), Required, "Templates of a person, 1 or more."),
        key("identities", COUNT, Required, "Independent trials of the true accept rate."),
        key("pairs", COUNT, Required, "Independent trials of the false accept rate."),
        key("far_interval", Pair(&Number), Required, "95 % interval of the false accept rate."),
        key("tar_interval", Pair(&Number), Required, "95 % interval of the true accept rate."),
    ],
};

static GOLDEN: Object = Object {
    title: "`golden`: known answers",
    keys: &[
        key(
            "seed",
            Text,
            Required,
            "Each input is the fill of a tensor called `SEED.NAME`; see `export/contract/src/fill.rs`.",
        ),
        key("batch", COUNT, Required, "Rows, 1 to 64."),
        key("block", COUNT, Required, "Edge of a block of equal pixels in pictures."),
        key(
            "pixels",
            Flag,
            Optional,
            "Whether the values of pictures are levels of 0 to 255 that are normalised, or -1 to 1.",
        ),
        key("tolerance", Number, Required, "Largest absolute difference allowed."),
        key("every", COUNT, Required, "Stride of the stored elements."),
        key("output", Form::Map(&List(&Number)), Required, "For each output, the elements 0, `every`, 2·`every`, …"),
    ],
};

static QUANTISATION: Object = Object {
    title: "`quantisation`: how a model was made smaller than float32",
    keys: &[
        key("source_sha256", Text, Required, "SHA-256 of the float32 model file."),
        key("target", Text, Required, "What it is made for: `cpu` or `tensorrt`; `gpu` for float16."),
        key("range", Text, Required, "How ranges were chosen: `minmax`, `percentile` or `entropy`."),
        key("weight_bits", Whole(u8::MAX as u64), Required, "Bits of integer weights, 8 or 7; 16 in float16."),
        key("pictures", COUNT, Required, "Pictures that the ranges are of."),
        key("fingerprint", Text, Required, "SHA-256 of their preprocessed values, in order."),
        key("nodes", Pair(&COUNT), Required, "Nodes that compute in the format, and all of the float32 model."),
    ],
};

static TRAINING: Object = Object {
    title: "`training`: where the weights come from",
    keys: &[
        key("command", Text, Optional, "Command line of the run."),
        key("dataset", Text, Optional, "Name of the data set."),
        key("dataset_fingerprint", Text, Optional, "Hash of the data set's list of files."),
        key("epoch", COUNT, Optional, "Finished epochs."),
        key("metrics", Form::Map(&Number), Optional, "Metrics at that epoch."),
        key("licence", Text, Optional, "Licence of data and weights, as far as known."),
        key("people", Form::Object(&PEOPLE), Nullable, "The people it was trained on, as far as known."),
    ],
};

static PEOPLE: Object = Object {
    title: "`training.people`",
    keys: &[
        key("split", Text, Required, "What parted them from the people to test on."),
        key("people", COUNT, Required, "How many they are."),
        key("fingerprints", Text, Required, "12 hexadecimal digits each, ascending; the smallest 4,096 of more."),
    ],
};

static EXPORTER: Object = Object {
    title: "`exporter`: what wrote the model file",
    keys: &[
        key("version", Text, Optional, "Version of Vitrine."),
        key("opset", Signed, Optional, "ONNX operator set."),
        key("burn", Text, Optional, "Version of Burn; empty for adopted models."),
        key("checkpoint_sha256", Text, Optional, "SHA-256 of the file that the weights were read from."),
    ],
};

/// Everything in `document` that is not of the form.
pub(crate) fn problems(document: &Map<String, Value>) -> Vec<Problem> {
    let mut found = Found { problems: Vec::new() };
    found.object(document, &CONTRACT, "");
    found.problems
}

struct Found {
    problems: Vec<Problem>,
}

impl Found {
    fn say(&mut self, field: &str, found: String, allowed: String) {
        if self.problems.len() < MOST {
            self.problems.push(Problem { field: field.to_owned(), found, allowed });
        }
    }

    fn object(&mut self, fields: &Map<String, Value>, object: &Object, at: &str) {
        let path = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        for Key { name, form, need, .. } in object.keys {
            match fields.get(*name) {
                None if *need == Required => {
                    self.say(&path(name), "absent".into(), format!("{} is needed", form.text()))
                }
                None => {}
                Some(Value::Null) if *need == Nullable => {}
                Some(value) => self.value(value, form, &path(name)),
            }
        }
        for (name, value) in fields {
            if self.problems.len() >= MOST {
                return;
            }
            if object.keys.iter().any(|key| key.name == name) {
                continue;
            }
            // Comparing takes memory by the product of the lengths.
            let short = if name.len() <= LONGEST { name.as_str() } else { "" };
            let similar = |key: &&Key| strsim::normalized_damerau_levenshtein(short, key.name);
            let nearest = object.keys.iter().max_by(|a, b| similar(a).total_cmp(&similar(b)));
            let nearest = nearest.filter(|key| similar(key) >= 0.5).map(|key| format!("did you mean `{}`? ", key.name));
            let names: Vec<String> = object.keys.iter().map(|key| format!("`{}`", key.name)).collect();
            let allowed = format!(
                "no key of that name is known; {}allowed are {}",
                nearest.unwrap_or_default(),
                names.join(", ")
            );
            self.say(&path(&name.chars().take(80).collect::<String>()), shortened(value), allowed);
        }
    }

    fn value(&mut self, value: &Value, form: &Form, at: &str) {
        if self.problems.len() >= MOST {
            return;
        }
        match (form, value) {
            (Form::Object(object), Value::Object(fields)) => self.object(fields, object, at),
            (Form::Map(form), Value::Object(fields)) => {
                fields.iter().for_each(|(name, value)| self.value(value, form, &format!("{at}.{name}")));
            }
            (List(form), Value::Array(items)) => self.items(items, form, at),
            (Pair(form), Value::Array(items)) if items.len() == 2 => self.items(items, form, at),
            _ if form.fits(value) => {}
            _ => self.say(at, shortened(value), format!("{} is allowed", form.text())),
        }
    }

    fn items(&mut self, items: &[Value], form: &Form, at: &str) {
        items.iter().enumerate().for_each(|(index, value)| self.value(value, form, &format!("{at}[{index}]")));
    }
}

impl Form {
    /// Whether a value that holds no others is of this form.
    fn fits(&self, value: &Value) -> bool {
        match self {
            Text => value.is_string(),
            Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Flag => value.is_boolean(),
            Whole(most) => value.as_u64().is_some_and(|whole| whole <= *most),
            Signed => value.is_i64(),
            Number => value.is_number(),
            Axis => value.is_string() || value.is_u64(),
            Rate => {
                let gallery = || value.as_object().filter(|rate| rate.len() == 1)?.get("fpir")?.as_object();
                value == "fmr"
                    || gallery().is_some_and(|of| of.len() == 1 && of.get("gallery").is_some_and(Value::is_u64))
            }
            List(_) | Pair(_) | Form::Map(_) | Form::Object(_) => false,
        }
    }

    /// What it is, for people.
    fn text(&self) -> String {
        match self {
            Text => "a text".into(),
            Word(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                words.join(" or ").replace("``", "an empty text")
            }
            Flag => "true or false".into(),
            Whole(most) if *most == u64::MAX => "a whole number from 0".into(),
            Whole(most) => format!("a whole number from 0 to {most}"),
            Signed => "a whole number".into(),
            Number => "a number".into(),
            Axis => "a size from 0 or a symbol such as \"batch\"".into(),
            Rate => "`fmr` or {\"fpir\": {\"gallery\": PEOPLE}}".into(),
            List(Form::Object(_)) => "a list of objects".into(),
            List(form) => format!("a list, each {}", form.text()),
            Pair(form) => format!("a list of two, each {}", form.text()),
            Form::Map(form) => format!("an object by name, each {}", form.text()),
            Form::Object(_) => "an object".into(),
        }
    }

    fn schema(&self) -> Value {
        match self {
            Text => json!({"type": "string"}),
            Word(words) => json!({"enum": words}),
            Flag => json!({"type": "boolean"}),
            Whole(most) if *most == u64::MAX => json!({"type": "integer", "minimum": 0}),
            Whole(most) => json!({"type": "integer", "minimum": 0, "maximum": most}),
            Signed => json!({"type": "integer"}),
            Number => json!({"type": "number"}),
            Axis => json!({"oneOf": [{"type": "integer", "minimum": 0}, {"type": "string"}]}),
            Rate => {
                let gallery = json!({"gallery": {"type": "integer", "minimum": 0}});
                let one = |name: &str, of: Value| {
                    json!({
                        "type": "object", "properties": {name: of}, "required": [name], "additionalProperties": false,
                    })
                };
                let gallery = one("gallery", gallery["gallery"].clone());
                json!({"oneOf": [{"const": "fmr"}, one("fpir", gallery)]})
            }
            List(form) => json!({"type": "array", "items": form.schema()}),
            Pair(form) => json!({"type": "array", "items": form.schema(), "minItems": 2, "maxItems": 2}),
            Form::Map(form) => json!({"type": "object", "additionalProperties": form.schema()}),
            Form::Object(object) => object.schema(),
        }
    }
}

impl Object {
    fn schema(&self) -> Value {
        let property = |key: &Key| {
            let mut schema = key.form.schema();
            if key.need == Nullable {
                schema = json!({"anyOf": [schema, {"type": "null"}]});
            }
            schema["description"] = key.about.into();
            (key.name.to_owned(), schema)
        };
        let required: Vec<&str> = self.keys.iter().filter(|key| key.need == Required).map(|key| key.name).collect();
        json!({
            "title": self.title,
            "type": "object",
            "properties": self.keys.iter().map(property).collect::<Map<String, Value>>(),
            "required": required,
            "additionalProperties": false,
        })
    }
}

/// The JSON schema of a contract, of the 2020-12 draft.
pub fn schema() -> Value {
    let mut schema = CONTRACT.schema();
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = format!("Contract of a model, version {VERSION}").into();
    schema
}

/// A value of the contract in few characters.
pub(crate) fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::ModelContract;
    use super::super::tests::full;
    use super::*;

    fn document() -> Value {
        serde_json::to_value(full()).unwrap()
    }

    fn found(document: &Value) -> Vec<Problem> {
        problems(document.as_object().unwrap())
    }

    /// Every object of the form with a pointer to it in [`document`].
    fn objects() -> Vec<(String, &'static Object)> {
        fn walk(object: &'static Object, at: &str, all: &mut Vec<(String, &'static Object)>) {
            all.push((at.to_owned(), object));
            for key in object.keys {
                let at = format!("{at}/{}", key.name);
                match &key.form {
                    Form::Object(inner) => walk(inner, &at, all),
                    List(Form::Object(inner)) => walk(inner, &format!("{at}/0"), all),
                    _ => {}
                }
            }
        }
        let mut all = Vec::new();
        walk(&CONTRACT, "", &mut all);
        all
    }

    /// The form knows the keys that the reader knows, and which of them it needs.
    #[test]
    fn the_form_is_what_is_read() {
        let whole = document();
        assert!(found(&whole).is_empty(), "{:?}", found(&whole));
        let reads = |document: &Value| serde_json::from_value::<ModelContract>(document.clone()).is_ok();
        assert!(reads(&whole));
        let wrong = [json!({"x": 1}), json!("other"), json!(-1), json!(1.5), json!([[]]), json!(true), json!(1e12)];
        let mut keys = 0;
        for (pointer, object) in objects() {
            let fields = whole.pointer(&pointer).and_then(Value::as_object);
            let fields = fields.unwrap_or_else(|| panic!("the full contract has no object at `{pointer}`"));
            let names: std::collections::BTreeSet<&str> = object.keys.iter().map(|key| key.name).collect();
            assert_eq!(
                fields.keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
                names,
                "{pointer}"
            );
            let changed = |change: &dyn Fn(&mut Map<String, Value>)| {
                let mut document = whole.clone();
                change(document.pointer_mut(&pointer).unwrap().as_object_mut().unwrap());
                document
            };
            let unknown = changed(&|fields| {
                fields.insert("unknown".into(), 1.into());
            });
            assert!(!reads(&unknown) && found(&unknown).len() == 1, "{pointer}");
            for key in object.keys {
                keys += 1;
                let without = changed(&|fields| {
                    fields.remove(key.name);
                });
                assert_eq!(found(&without).is_empty(), reads(&without), "{pointer}/{} left out", key.name);
                let null = changed(&|fields| {
                    fields.insert(key.name.into(), Value::Null);
                });
                assert_eq!(found(&null).is_empty(), reads(&null), "{pointer}/{} null", key.name);
                for value in &wrong {
                    let other = changed(&|fields| {
                        fields.insert(key.name.into(), value.clone());
                    });
                    assert!(!found(&other).is_empty() || reads(&other), "{pointer}/{}: {value}", key.name);
                }
            }
        }
        assert!(keys > 60, "{keys} keys");
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut document = self::document();
        document.as_object_mut().unwrap().remove("family");
        document["input"][0]["picture"]["color"] = "rgb".into();
        document["input"][0]["picture"].as_object_mut().unwrap().remove("colour");
        document["input"][0]["picture"]["size"] = json!([256, 128, 3]);
        document["output"][0]["unit_length"] = "yes".into();
        document["zzz"] = 1.into();
        let error = ModelContract::from_json(&document.to_string()).unwrap_err().to_string();
        let expected = [
            "6 mistakes",
            "`family` is absent; a text is needed",
            "`input[0].picture.colour` is absent; `rgb` or `bgr` or `grey` is needed",
            "`input[0].picture.color` is `\"rgb\"`; no key of that name is known; did you mean `colour`?",
            "`input[0].picture.size` is `[256,128,3]`; a list of two, each a whole number from 0 is allowed",
            "`output[0].unit_length` is `\"yes\"`; true or false is allowed",
            "`zzz` is `1`; no key of that name is known; allowed are `version`",
        ];
        for part in expected {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        // Values that contradict each other, too.
        let mut document = self::document();
        document["input"][0].as_object_mut().unwrap().remove("range");
        document["input"][0]["picture"]["std"] = json!([0.2, 0, 0.2]);
        document["embedding"]["output"] = "other".into();
        document["golden"]["batch"] = 65.into();
        let error = ModelContract::from_json(&document.to_string()).unwrap_err().to_string();
        for part in ["3 mistakes", "`input[image].std`", "`embedding.output`", "`golden`"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        // A hostile file does not fill the screen.
        let many: Map<String, Value> = (0..10_000).map(|at| (format!("key {at}"), 1.into())).collect();
        assert_eq!(problems(&many).len(), MOST);
    }

    /// The contract by hand that the documentation shows.
    #[test]
    fn the_documents_sample_is_a_contract() {
        let page = std::fs::read_to_string(at("contract.md")).unwrap();
        let sample = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
        let sample = ModelContract::from_json(sample).unwrap();
        assert_eq!(sample.embedding.unwrap().dim, 512);
    }

    fn at(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
    }

    /// The tables of `docs/contract.md`.
    fn tables() -> String {
        let table = |(_, object): (String, &Object)| {
            let row = |key: &Key| {
                let need = if key.need == Required { "yes" } else { "no" };
                format!("| `{}` | {need} | {} | {} |\n", key.name, key.form.text(), key.about)
            };
            let rows: String = object.keys.iter().map(row).collect();
            format!("### {}\n\n| key | needed | value | meaning |\n|---|---|---|---|\n{rows}\n", object.title)
        };
        objects().into_iter().map(table).collect()
    }

    /// `CONTRACT_DOCS=write cargo test -p vitrine-contract documents` writes both anew.
    #[test]
    fn documents_are_of_this_form() {
        let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        let page = std::fs::read_to_string(at("contract.md")).unwrap();
        let [begin, end] =
            ["<!-- keys: made from export/contract/src/contract/form.rs -->\n\n", "<!-- end of keys -->"];
        let (before, rest) = page.split_once(begin).unwrap();
        let (_, after) = rest.split_once(end).unwrap();
        let expected = format!("{before}{begin}{}{end}{after}", tables());
        if std::env::var("CONTRACT_DOCS").is_ok_and(|what| what == "write") {
            std::fs::write(at("contract.schema.json"), &schema).unwrap();
            std::fs::write(at("contract.md"), &expected).unwrap();
        }
        let written = std::fs::read_to_string(at("contract.schema.json")).unwrap_or_default();
        assert!(written == schema && page == expected, "write them anew with CONTRACT_DOCS=write");
    }
}
