//! The Open Inference Protocol, version 2: the model as it is, for programs that speak it with any server.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contract::Axis;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::Shared;
use crate::runtime::Outputs;
use crate::serve::error::Problem;
use crate::serve::limits::Held;
use crate::serve::state::Loaded;

/// Length of the JSON before binary tensors.
const LENGTH: &str = "inference-header-content-length";

/// `GET /v2`.
pub(super) async fn server() -> Json<Value> {
    Json(json!({
        "name": "vitrine",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data"],
    }))
}

/// `GET /v2/health/live`.
pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

/// `GET /v2/health/ready`. The model is open and tested before anything is answered.
pub(super) async fn ready(State(app): Shared) -> impl IntoResponse {
    let ready = app.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready})))
}

fn known(loaded: &Loaded, name: &str) -> Result<(), Problem> {
    if loaded.name == name {
        return Ok(());
    }
    Err(Problem::missing("model", "there is no such model").found(name).allowed(&loaded.name))
}

/// `GET /v2/models/{model}`.
pub(super) async fn model(State(app): Shared, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    let loaded = app.loaded();
    known(&loaded, &name)?;
    let contract = &loaded.model.contract;
    let tensor = |name: &str, shape: &[Axis]| {
        let axis = |axis: &Axis| match axis {
            Axis::Size(size) => i64::try_from(*size).unwrap_or(i64::MAX),
            Axis::Symbol(_) => -1,
        };
        json!({"name": name, "datatype": "FP32", "shape": shape.iter().map(axis).collect::<Vec<_>>()})
    };
    let inputs: Vec<Value> = contract.input.iter().map(|input| tensor(&input.name, &input.shape)).collect();
    let outputs: Vec<Value> = contract.output.iter().map(|output| tensor(&output.name, &output.shape)).collect();
    Ok(Json(json!({
        "name": loaded.name,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": outputs,
    })))
}

/// `GET /v2/models/{model}/ready`.
pub(super) async fn model_ready(State(app): Shared, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    known(&app.loaded(), &name)?;
    Ok(Json(json!({"name": name, "ready": app.is_ready()})))
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Parameters,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Output>,
}

/// What of the parameters is read.
#[derive(Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
    #[serde(default)]
    binary_data: Option<bool>,
    #[serde(default)]
    binary_data_output: Option<bool>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    data: Option<Flat>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Parameters,
}

/// Numbers in lists of any depth.
struct Flat(Vec<f32>);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Into<'a>(&'a mut Vec<f32>);
        impl<'de> Visitor<'de> for Into<'_> {
            type Value = ();

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("numbers, or lists of them")
            }

            fn visit_f64<E>(self, value: f64) -> Result<(), E> {
                self.0.push(value as f32);
                Ok(())
            }

            fn visit_u64<E>(self, value: u64) -> Result<(), E> {
                self.0.push(value as f32);
                Ok(())
            }

            fn visit_i64<E>(self, value: i64) -> Result<(), E> {
                self.0.push(value as f32);
                Ok(())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
                while list.next_element_seed(Into(self.0))?.is_some() {}
                Ok(())
            }
        }
        impl<'de> de::DeserializeSeed<'de> for Into<'_> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
                from.deserialize_any(self)
            }
        }
        let mut values = Vec::new();
        from.deserialize_any(Into(&mut values))?;
        Ok(Self(values))
    }
}

/// `POST /v2/models/{model}/infer`.
pub(super) async fn infer(State(app): Shared, Path(name): Path<String>, request: Request) -> Result<Response, Problem> {
    let loaded = app.loaded();
    known(&loaded, &name)?;
    let mut held = Held::default();
    let (parts, body) = app.admission.body(request, &mut held).await?;
    // Numbers in JSON take two bytes and more, and become four.
    app.admission.take(&mut held, 2 * body.len() as u64, "body")?;
    let (json, binary) = match parts.headers.get(LENGTH) {
        None => (&body[..], &[][..]),
        Some(length) => {
            let length = length.to_str().ok().and_then(|text| text.parse::<usize>().ok());
            let Some(length) = length.filter(|length| *length <= body.len()) else {
                let wrong = Problem::malformed(format!("header `{LENGTH}`"), "this is no length of a part of the body");
                return Err(wrong.allowed(format!("0 to {}", body.len())));
            };
            body.split_at(length)
        }
    };
    let asked: Asked = serde_json::from_slice(json).map_err(|no| Problem::malformed("body", no.to_string()))?;
    let (inputs, rows) = tensors(&loaded, asked.inputs, binary, app.config.limits.batch_size)?;
    for output in &asked.outputs {
        let all: Vec<&str> = loaded.model.contract.output.iter().map(|one| one.name.as_str()).collect();
        if !all.contains(&output.name.as_str()) {
            let unknown = Problem::unfit("outputs", "there is no such output");
            return Err(unknown.found(&output.name).allowed(all.join(", ")));
        }
    }
    let outputs = loaded.infer(inputs, rows).await?;
    let mut answer = json!({"model_name": loaded.name, "model_version": "1"});
    if let Some(id) = asked.id {
        answer["id"] = id.into();
    }
    let binary = asked.parameters.binary_data_output.unwrap_or(false);
    Ok(written(answer, outputs, &asked.outputs, binary))
}

/// The inputs in the model's order, and the number of rows.
fn tensors(
    loaded: &Loaded,
    given: Vec<Input>,
    mut binary: &[u8],
    most: usize,
) -> Result<(Vec<Vec<f32>>, usize), Problem> {
    let ports = &loaded.model.contract.input;
    let mut by_port: Vec<Option<Vec<f32>>> = vec![None; ports.len()];
    let mut rows = None;
    for Input { name, shape, datatype, parameters, data } in given {
        let place = format!("input `{name}`");
        let Some(at) = ports.iter().position(|port| port.name == name) else {
            let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            return Err(Problem::unfit(&place, "the model has no such input").allowed(names.join(", ")));
        };
        if datatype != "FP32" {
            return Err(Problem::unfit(&place, "its type is not the model's").found(datatype).allowed("FP32"));
        }
        let row = ports[at].row().unwrap_or_default();
        let own = shape.split_first().filter(|(_, rest)| **rest == row);
        let Some(count) = own.map(|(count, _)| *count).filter(|count| (1..=most).contains(count)) else {
            let allowed = format!("[1 to {most}, {}]", row.iter().map(usize::to_string).collect::<Vec<_>>().join(", "));
            let wrong = Problem::unfit(&place, "its shape is not the model's").found(format!("{shape:?}"));
            return Err(wrong.allowed(allowed).flag("--batch-size"));
        };
        if rows.is_some_and(|rows| rows != count) {
            return Err(Problem::unfit(&place, "it has other rows than the input before").found(count));
        }
        rows = Some(count);
        let values = match (data, parameters.binary_data_size) {
            (Some(Flat(values)), None) => values,
            (None, Some(size)) if size <= binary.len() => {
                let (own, rest) = binary.split_at(size);
                binary = rest;
                own.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
            }
            _ => {
                let wrong = Problem::malformed(&place, "its values are not there");
                return Err(wrong.allowed("`data`, or `binary_data_size` bytes behind the JSON"));
            }
        };
        let needed = count * row.iter().product::<usize>();
        if values.len() != needed {
            let wrong = Problem::unfit(&place, "it has another number of values than its shape");
            return Err(wrong.found(values.len()).allowed(needed));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(Problem::unfit(&place, "a value is not finite").found(format!("value {at}")));
        }
        if by_port[at].replace(values).is_some() {
            return Err(Problem::unfit(&place, "it comes twice").allowed("once"));
        }
    }
    if !binary.is_empty() {
        let left = Problem::malformed("body", "bytes are left that no input names");
        return Err(left.found(format!("{} bytes", binary.len())));
    }
    let missing = |at: usize| Problem::unfit(format!("input `{}`", ports[at].name), "it is missing");
    let all: Result<Vec<_>, _> =
        by_port.into_iter().enumerate().map(|(at, values)| values.ok_or_else(|| missing(at))).collect();
    Ok((all?, rows.unwrap_or(0)))
}

fn written(mut answer: Value, outputs: Outputs, asked: &[Output], all_binary: bool) -> Response {
    let (mut tensors, mut bytes) = (Vec::new(), Vec::new());
    for (name, (shape, values)) in outputs {
        let own = asked.iter().find(|output| output.name == name);
        if own.is_none() && !asked.is_empty() {
            continue;
        }
        let mut tensor = Map::new();
        tensor.insert("name".into(), name.into());
        tensor.insert("datatype".into(), "FP32".into());
        tensor.insert("shape".into(), shape.into());
        if own.and_then(|output| output.parameters.binary_data).unwrap_or(all_binary) {
            let before = bytes.len();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            tensor.insert("parameters".into(), json!({"binary_data_size": bytes.len() - before}));
        } else {
            tensor.insert("data".into(), values.into_iter().map(super::short).collect::<Vec<f64>>().into());
        }
        tensors.push(Value::Object(tensor));
    }
    answer["outputs"] = tensors.into();
    let mut body = answer.to_string().into_bytes();
    if bytes.is_empty() {
        return ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    let length = body.len();
    body.extend(bytes);
    let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response();
    response.headers_mut().insert(HeaderName::from_static(LENGTH), HeaderValue::from(length));
    response
}
