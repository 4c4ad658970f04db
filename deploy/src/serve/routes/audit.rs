//! What was done to the gallery, and another model.

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::{Shared, compute};
use crate::DeployError;
use crate::serve::error::Problem;
use crate::serve::sent::Fields;
use crate::time;

/// `GET /v1/audit`.
pub(super) async fn log(State(app): Shared, request: Request) -> Result<Json<Value>, Problem> {
    let fields = Fields::of(request.uri(), &["after", "limit"])?;
    let after: u64 = fields.read("after", "the number of a record", |_| true)?.unwrap_or(0);
    let limit: usize = fields.read("limit", "1 to 1000", |limit| (1..=1000).contains(limit))?.unwrap_or(100);
    compute(move || {
        let (mut records, mut more) = (Vec::new(), false);
        let problems = app.people()?.store().log(|entry| {
            if entry.number <= after {
                return;
            }
            if records.len() == limit {
                more = true;
                return;
            }
            let mut record = json!(entry);
            record["at"] = time::text(entry.at).into();
            records.push((entry.number, record));
        })?;
        let next = records.last().filter(|_| more).map(|(number, _)| *number);
        let records: Vec<Value> = records.into_iter().map(|(_, record)| record).collect();
        Ok(Json(json!({"records": records, "problems": problems, "next": next})))
    })
    .await
}

/// `POST /v1/reload`.
pub(super) async fn reload(State(app): Shared) -> Result<Json<Value>, Problem> {
    compute(move || match app.reload() {
        Ok(loaded) => {
            let (_, spec) = loaded.model.embedding()?;
            tracing::info!(contract = spec.contract_id, "another model serves");
            Ok(Json(json!({"model": loaded.name, "contract": spec.contract_id, "sha256": loaded.model.sha256})))
        }
        Err(DeployError::OtherModel { gallery, model, .. }) => {
            let other =
                Problem::conflict("model", "the gallery holds embeddings of another model; the old one serves on");
            Err(other.found(format!("contract {model}")).allowed(format!("contract {gallery}")).flag("MODEL"))
        }
        Err(error) => {
            let cause = terminal::sentence(&error);
            tracing::error!(cause, "model, keys and certificate stay as they are");
            let what = "model, keys or certificate cannot be used; the old ones serve on, and the log says why";
            Err(Problem::conflict("service", what))
        }
    })
    .await
}
