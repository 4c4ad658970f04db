//! By what searches decide, and what that means.

use axum::Json;
use axum::extract::{Request, State};
use contract::{Rate, Threshold};
use serde_json::{Value, json};

use super::{Shared, compute, short, who};
use crate::serve::config::Rule;
use crate::serve::error::Problem;
use crate::serve::people::Act;
use crate::serve::sent;

/// `GET /v1/thresholds`.
pub(super) async fn list(State(app): Shared) -> Result<Json<Value>, Problem> {
    compute(move || {
        let loaded = app.loaded();
        let (current, decision) = match &app.people {
            Some(people) => app.decision(&loaded, people.size()?),
            None => (None, crate::report::Decision::none()),
        };
        let table: Vec<Value> = loaded.thresholds().iter().map(|one| row(one, current)).collect();
        // For the smallest calibrated gallery that is as large as this one.
        let people = decision.people.unwrap_or(0);
        let galleries = loaded.thresholds().iter().filter_map(gallery).filter(|of| *of >= people);
        let mut curve: Vec<&Threshold> = match galleries.min() {
            Some(smallest) => loaded.thresholds().iter().filter(|one| gallery(one) == Some(smallest)).collect(),
            None => Vec::new(),
        };
        curve.sort_by(|a, b| a.similarity.total_cmp(&b.similarity));
        let point = |one: &&Threshold| json!({"similarity": one.similarity, "fpir": one.far, "fnir": 1.0 - one.tar});
        Ok(Json(json!({
            "threshold": current.map(short),
            "meaning": decision.meaning,
            "table": table,
            "curve": curve.iter().map(point).collect::<Vec<_>>(),
        })))
    })
    .await
}

/// People of the gallery that a threshold of a search is for.
fn gallery(threshold: &Threshold) -> Option<u64> {
    match threshold.measured.as_ref()?.rate {
        Rate::Fpir { gallery } => Some(gallery),
        Rate::Fmr => None,
    }
}

fn row(threshold: &Threshold, current: Option<f32>) -> Value {
    let measured = threshold.measured.as_ref();
    let searched = gallery(threshold);
    json!({
        "similarity": threshold.similarity,
        "kind": if searched.is_some() { "1:N" } else { "1:1" },
        "rate": threshold.far,
        "gallery": searched,
        "templates": measured.map(|measured| measured.templates),
        "fnir": 1.0 - threshold.tar,
        "trials": measured.map(|measured| measured.pairs),
        "people": measured.map(|measured| measured.identities),
        "interval": measured.map(|measured| measured.far_interval),
        "current": searched.is_some() && current == Some(threshold.similarity as f32),
    })
}

/// `PUT /v1/threshold`.
pub(super) async fn set(State(app): Shared, request: Request) -> Result<Json<Value>, Problem> {
    let people = app.people()?;
    let who = who(&request).name;
    let fields = sent::fields(&app, request, &["similarity", "store"]).await?;
    let allowed = "a cosine similarity from -1 to 1";
    let similarity: Option<f32> = fields.read("similarity", allowed, |value| (-1.0..=1.0).contains(value))?;
    let Some(similarity) = similarity else {
        return Err(Problem::unfit("field `similarity`", "this is needed").found("none").allowed(allowed));
    };
    let store = fields.read("store", "true, false", |_| true)?.unwrap_or(false);
    if store {
        people.change(Act::Threshold(similarity), who).await?;
    }
    app.set_rule(Rule::Chosen(similarity));
    Ok(Json(json!({"similarity": short(similarity), "stored": store})))
}
