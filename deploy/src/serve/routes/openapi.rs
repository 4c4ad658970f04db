//! The document of the interface, OpenAPI 3.1: a description of every route of the table.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{Route, all};

/// The whole document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for route in all() {
        let path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(&route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Vitrine",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Search, verify and enrol people by pictures",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {"key": {
                "type": "http",
                "scheme": "bearer",
                "description": "A key of the service's key file. A service on loopback may be without keys.",
            }},
        },
    })
}

fn operation(route: &Route) -> Value {
    let Said { summary, parameters, body, status, answer } = said(&route.method, route.path);
    let protocol = route.path.starts_with("/v2");
    let refusal = |about: &str| {
        let schema = if protocol { "#/components/schemas/Sentence" } else { "#/components/schemas/Problem" };
        json!({"description": about, "content": {"application/json": {"schema": {"$ref": schema}}}})
    };
    let mut answers = Map::new();
    answers.insert(status.to_string(), answer);
    let mut refuse = |code: &str, about: &str| {
        answers.entry(code).or_insert_with(|| refusal(about));
    };
    if let Some(role) = route.role {
        refuse("401", "No key, or one that is not known");
        refuse("403", &format!("The role {role} is needed, or a page of another site asks"));
        refuse("429", "The key asks too often");
        refuse("503", "The service has enough to do");
    }
    if !parameters.is_empty() {
        refuse("400", "Malformed");
        refuse("422", "Out of range, or not known here");
    }
    if route.path.contains('{') {
        refuse("404", "There is no such thing");
    }
    if route.role.is_some() {
        refuse("409", "It does not go with the gallery, or there is none");
    }
    if body.is_some() {
        refuse("400", "Malformed");
        refuse("404", "A subject that is named is not enrolled");
        refuse("408", "The body did not come in time");
        refuse("413", "The body is too large");
        refuse("422", "Not allowed: the answer says what is");
    }
    let mut operation = json!({
        "operationId": format!("{} {}", route.method, route.path),
        "summary": summary,
        "parameters": parameters,
        "responses": answers,
        "security": if route.role.is_some() { json!([{"key": []}, {}]) } else { json!([]) },
    });
    if let Some(role) = route.role {
        operation["x-role"] = json!(role);
    }
    if let Some(body) = body {
        operation["requestBody"] = body;
    }
    operation
}

/// What is said about a route.
struct Said {
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    status: u16,
    answer: Value,
}

fn said(method: &Method, path: &str) -> Said {
    let object = |summary, answer: Value| Said {
        summary,
        parameters: in_path(path),
        body: None,
        status: 200,
        answer: answered("application/json", answer),
    };
    let with = |mut said: Said, parameters: &[Value], body: Option<Value>| {
        said.parameters.extend(parameters.iter().cloned());
        Said { body, ..said }
    };
    let named = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let list = |name: &str, of: Value, more: bool| {
        let mut properties = json!({name: {"type": "array", "items": of}});
        if more {
            properties["next"] = json!({"type": ["integer", "null"], "description": "What to send as `after`"});
        }
        required(properties)
    };
    let get = *method == Method::GET;
    match path {
        "/v2" => object("What the server is", free(&["name", "version", "extensions"])),
        "/v2/health/live" => object("Whether the process answers", free(&["live"])),
        "/v2/health/ready" => {
            let mut said = object("Whether the model is open and tested, and requests are taken", free(&["ready"]));
            said.answer["description"] = "Ready; while it stops the status is 503".into();
            said
        }
        "/v2/models/{model}" => {
            object("Inputs and outputs of the model", free(&["name", "versions", "platform", "inputs", "outputs"]))
        }
        "/v2/models/{model}/ready" => object("Whether the model is ready", free(&["name", "ready"])),
        "/v2/models/{model}/infer" => {
            let said = object("Run the model on normalised values", free(&["model_name", "outputs"]));
            with(said, &[], Some(sent(&[("application/json", named("Infer"))])))
        }
        "/v1/info" => object("Model, runtime, gallery, limits and the role of who asks", named("Info")),
        "/v1/embed" => {
            let rows = json!({"type": "array", "items": {"type": "array", "items": {"type": "number"}}});
            let said = object("Embeddings of pictures, of unit length", required(json!({"embeddings": rows})));
            with(said, &[], Some(pictures(&[])))
        }
        "/v1/verify" => {
            let said = object("Compare two pictures, or one with a subject", named("Comparison"));
            let fields = [
                field("subject", integer(0, u64::from(u32::MAX)), "Number of a subject"),
                field(
                    "far",
                    json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
                    "Highest rate at which strangers may be accepted",
                ),
                field("threshold", similarity(), "Similarity that decides instead"),
            ];
            with(said, &query(&fields), Some(pictures(&fields)))
        }
        "/v1/search" => {
            let said = object("Who is on a picture: the nearest templates or subjects", named("Search"));
            let fields = [
                field("k", integer(1, 1000), "Matches"),
                field("min", similarity(), "Matches of less are left out"),
                field("by", json!({"enum": ["template", "subject"]}), "What a match is"),
                field("subject", integer(0, u64::from(u32::MAX)), "Only this subject; may be repeated"),
                field("camera", integer(0, u64::from(u32::MAX)), "Only this camera; may be repeated"),
                field("since", time(), "Only what was taken at this time or later, in UTC"),
                field("until", time(), "Only what was taken before this time"),
                field("tag", json!({"type": "string"}), "Only what has this tag; may be repeated"),
            ];
            with(said, &query(&fields), Some(pictures(&fields)))
        }
        "/v1/subjects" if get => {
            let said = object("Who is enrolled, in order of the numbers", list("subjects", named("Subject"), true));
            let fields = [
                field("after", integer(0, u64::from(u32::MAX)), "Only those after this number"),
                field("limit", integer(1, 1000), "At most so many"),
                field("q", json!({"type": "string"}), "Only those whose name has this in it"),
            ];
            with(said, &query(&fields), None)
        }
        "/v1/subjects" => {
            let said = object("Enrol pictures of a person; answered after the commit", named("Enrolled"));
            let fields = [
                field("name", json!({"type": "string", "minLength": 1}), "Who it is"),
                field("camera", integer(0, u64::from(u32::MAX) - 1), "Which camera saw it"),
                field("taken", time(), "When, in UTC"),
                field("tag", json!({"type": "string"}), "A word to filter by; may be repeated"),
                field("keep_picture", json!({"type": "boolean"}), "Keep a small picture of at most 256 pixels"),
            ];
            Said { status: 201, ..with(said, &query(&fields), Some(pictures(&fields))) }
        }
        "/v1/subjects/{id}" if get => object("A subject and all templates", named("Person")),
        "/v1/subjects/{id}" => object("Remove a subject; answered after the commit", named("Removed")),
        "/v1/subjects/{id}/merge" => {
            let said = object("Give all templates of another subject to this one", free(&["subject", "templates"]));
            let body = required(json!({"from": integer(0, u64::from(u32::MAX))}));
            with(said, &[], Some(sent(&[("application/json", body)])))
        }
        "/v1/templates/{id}" => object("Remove a template; answered after the commit", named("Removed")),
        "/v1/templates/{id}/picture" => {
            Said { answer: answered("image/jpeg", json!({})), ..object("The small picture of a template", json!({})) }
        }
        "/v1/matches" => {
            let said = object("The last searches, the newest first", list("matches", named("Match"), false));
            with(said, &query(&[field("limit", integer(1, 1000), "At most so many")]), None)
        }
        "/v1/matches/{id}/review" => {
            let said = object("Say whether a match is right", free(&["id", "verdict", "subject"]));
            let body = json!({
                "type": "object",
                "required": ["verdict"],
                "additionalProperties": false,
                "properties": {
                    "verdict": {"enum": ["confirmed", "wrong"]},
                    "subject": integer(0, u64::from(u32::MAX)),
                },
            });
            with(said, &[], Some(sent(&[("application/json", body)])))
        }
        "/v1/thresholds" => {
            object("Calibrated thresholds, and what decides now", free(&["threshold", "meaning", "table", "curve"]))
        }
        "/v1/threshold" => {
            let said = object("From which similarity on somebody is found", free(&["similarity", "stored"]));
            let body = json!({
                "type": "object",
                "required": ["similarity"],
                "additionalProperties": false,
                "properties": {"similarity": similarity(), "store": {"type": "boolean"}},
            });
            with(said, &[], Some(sent(&[("application/json", body)])))
        }
        "/v1/audit" => {
            let said = object("What was done to the gallery, and by whom", free(&["records", "problems", "next"]));
            let fields = [
                field("after", integer(0, u64::MAX), "Only records after this number"),
                field("limit", integer(1, 1000), "At most so many"),
            ];
            with(said, &query(&fields), None)
        }
        "/v1/reload" => object("Read model, keys and certificate again", free(&["model", "contract", "sha256"])),
        "/metrics" => Said {
            answer: answered("application/openmetrics-text", json!({"type": "string"})),
            ..object("Numbers for Prometheus", json!({}))
        },
        "/openapi.json" => object("This document", json!({"type": "object"})),
        "/" => Said { answer: answered("text/html", json!({"type": "string"})), ..object("The page", json!({})) },
        "/page/{*file}" => {
            Said { answer: json!({"description": "The file"}), ..object("A file of the page", json!({})) }
        }
        // A test has every route.
        _ => object("", json!({})),
    }
}

fn answered(kind: &str, schema: Value) -> Value {
    json!({"description": "Done", "content": {kind: {"schema": schema}}})
}

/// The parameters in a path.
fn in_path(path: &str) -> Vec<Value> {
    let parts = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let one = |name: &str| {
        let schema = if name == "id" { integer(0, u64::from(u32::MAX)) } else { json!({"type": "string"}) };
        json!({"name": name.trim_start_matches('*'), "in": "path", "required": true, "schema": schema})
    };
    parts.map(one).collect()
}

/// A field of the address or of the body.
struct Field {
    name: &'static str,
    schema: Value,
    about: &'static str,
}

fn field(name: &'static str, schema: Value, about: &'static str) -> Field {
    Field { name, schema, about }
}

fn query(fields: &[Field]) -> Vec<Value> {
    let one =
        |field: &Field| json!({"name": field.name, "in": "query", "schema": field.schema, "description": field.about});
    fields.iter().map(one).collect()
}

fn integer(least: u64, most: u64) -> Value {
    json!({"type": "integer", "minimum": least, "maximum": most})
}

fn similarity() -> Value {
    json!({"type": "number", "minimum": -1, "maximum": 1})
}

fn time() -> Value {
    json!({"type": "string", "examples": ["2026-11-28", "2026-11-28T14:03:05Z"]})
}

/// A body in one of several forms.
fn sent(forms: &[(&str, Value)]) -> Value {
    let form = |(kind, schema): &(&str, Value)| ((*kind).to_owned(), json!({"schema": schema}));
    json!({"required": true, "content": forms.iter().map(form).collect::<Map<_, _>>()})
}

/// A body of pictures and fields.
fn pictures(fields: &[Field]) -> Value {
    let own: Map<String, Value> =
        fields.iter().map(|field| (field.name.to_owned(), json!({"description": field.about}))).collect();
    let mut parts = own.clone();
    parts.insert(
        "picture".into(),
        json!({
            "type": "array",
            "items": {"type": "string", "contentMediaType": "image/*"},
            "description": "Pictures; those of a model of several inputs are parts with the names of its inputs",
        }),
    );
    let mut object = own;
    object.insert(
        "pictures".into(),
        json!({
            "type": "array",
            "items": {"type": "string", "contentEncoding": "base64"},
            "description": "Pictures; those of a model of several inputs row by row",
        }),
    );
    sent(&[
        ("multipart/form-data", json!({"type": "object", "properties": parts})),
        ("application/json", json!({"type": "object", "properties": object})),
        ("image/*", json!({})),
    ])
}

/// An object that has all of these.
fn required(properties: Value) -> Value {
    let names: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

/// An object that has at least these, whatever they are.
fn free(names: &[&str]) -> Value {
    json!({"type": "object", "required": names})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let number = json!({"type": "number"});
    let whole = integer(0, u64::MAX);
    let or_null = |kind: &str| json!({"type": [kind, "null"]});
    let decision = json!({"enum": ["match", "no match", null]});
    let sentences = json!({"type": "array", "items": text});
    let error = json!({
        "type": "object",
        "required": ["what", "where", "found", "allowed"],
        "properties": {"what": text, "where": text, "found": text, "allowed": text, "flag": text},
    });
    let quality = json!({"type": "array", "items": required(json!({
        "size": {"type": "array", "items": whole},
        "brightness": number,
        "sharpness": number,
        "problems": {"type": "array", "items": required(json!({"kind": text, "text": text}))},
    }))});
    let template = json!({
        "id": whole, "camera": or_null("integer"), "taken": or_null("string"), "tags": sentences,
        "picture": or_null("string"), "enrolled": or_null("string"),
    });
    json!({
        "Problem": required(json!({"error": error})),
        "Sentence": required(json!({"error": text})),
        "Info": free(&["model", "runtime", "gallery", "role", "key", "limits", "version"]),
        "Infer": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": text,
                "inputs": {"type": "array", "items": {
                    "type": "object",
                    "required": ["name", "shape", "datatype"],
                    "properties": {
                        "name": text,
                        "shape": {"type": "array", "items": whole},
                        "datatype": {"const": "FP32"},
                        "data": {"type": "array"},
                    },
                }},
                "outputs": {
                    "type": "array",
                    "items": {"type": "object", "required": ["name"], "properties": {"name": text}},
                },
            },
        },
        "Comparison": required(json!({
            "similarity": number, "threshold": or_null("number"), "decision": decision, "meaning": sentences,
            "templates": whole, "quality": quality,
        })),
        "Search": required(json!({
            "id": whole,
            "matches": {"type": "array", "items": required(json!({
                "rank": whole, "subject": or_null("integer"), "name": or_null("string"), "template": whole,
                "similarity": number, "decision": decision, "camera": or_null("integer"), "taken": or_null("string"),
                "tags": sentences, "picture": or_null("string"),
            }))},
            "threshold": or_null("number"),
            "meaning": sentences,
            "quality": quality,
        })),
        "Subject": required(json!({
            "id": whole, "name": text, "templates": whole, "picture": or_null("string"), "enrolled": or_null("string"),
        })),
        "Person": required(json!({
            "id": whole, "name": text, "templates": {"type": "array", "items": required(template)},
        })),
        "Enrolled": required(json!({
            "subject": or_null("integer"), "name": text, "templates": {"type": "array", "items": whole},
            "warnings": {"type": "array", "items": free(&["kind", "text", "picture"])},
        })),
        "Removed": required(json!({"removed": whole})),
        "Match": required(json!({
            "id": whole, "at": text, "best": or_null("object"), "decision": decision, "review": or_null("object"),
        })),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                described.insert(format!("{} {path}", method.to_uppercase()));
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path} has no description");
            }
        }
        let routes = all();
        let routed: BTreeSet<String> =
            routes.iter().map(|route| format!("{} {}", route.method, route.path.replace("{*", "{"))).collect();
        assert_eq!(described, routed);
        assert_eq!(routes.len(), routed.len(), "a route twice");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let mut found = 0;
        for part in text.split("\"$ref\":\"").skip(1) {
            let pointer = part.split('"').next().unwrap().trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            found += 1;
        }
        assert!(found > 20, "{found}");
    }
}
