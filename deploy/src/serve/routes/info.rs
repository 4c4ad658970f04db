//! What the service is: model, gallery, limits, metrics and the document of its interface.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use gallery::Engine;
use serde_json::{Value, json};

use super::openapi;
use super::{Shared, compute, short, who};
use crate::serve::auth::Role;
use crate::serve::error::Problem;

/// `GET /v1/info`.
pub(super) async fn info(State(app): Shared, request: Request) -> Result<Json<Value>, Problem> {
    let who = who(&request);
    compute(move || {
        let loaded = app.loaded();
        let model = &loaded.model;
        let (pictures, spec) = model.embedding()?;
        // Where files lie on this machine is for admins.
        let library = model.runtime.file().filter(|_| who.role == Role::Admin);
        let inputs = model.contract.input.iter().zip(pictures);
        let inputs = inputs.map(|(port, picture)| json!({"name": port.name, "size": picture.size}));
        let gallery = match &app.people {
            None => Value::Null,
            Some(people) => {
                let info = people.store().info()?;
                let (threshold, decision) = app.decision(&loaded, people.size()?);
                json!({
                    "subjects": info.subjects,
                    "templates": info.templates,
                    "threshold": threshold.map(short),
                    "meaning": decision.meaning,
                    "encrypted": people.store().is_encrypted(),
                })
            }
        };
        Ok(Json(json!({
            "model": {
                "name": loaded.name,
                "family": model.contract.family,
                "architecture": model.contract.architecture,
                "contract": spec.contract_id,
                "sha256": model.sha256,
                "inputs": inputs.collect::<Vec<_>>(),
                "dim": spec.dim,
                "precision": model.contract.precision,
                "training": {"dataset": model.contract.training.dataset, "licence": model.contract.training.licence},
                "self_test": model.self_test.to_string(),
                "card": loaded.card,
            },
            "runtime": {
                "provider": model.runs_on(),
                "library": library.map(|file| file.display().to_string()),
                "version": model.runtime.version(),
                "threads": app.config.options.threads(),
                "sessions": model.lanes,
            },
            "gallery": gallery,
            "role": who.role,
            "key": who.name,
            "limits": app.config.limits,
            "version": env!("CARGO_PKG_VERSION"),
        })))
    })
    .await
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): Shared) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.text())
}

/// `GET /openapi.json`.
pub(super) async fn openapi() -> Json<Value> {
    Json(openapi::document())
}
