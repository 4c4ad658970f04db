//! The last searches, and what people say about them.

use axum::Json;
use axum::extract::{Path, Request, State};
use gallery::{Match, Verdict};
use serde_json::{Value, json};

use super::{Shared, answer, compute, number, short, who};
use crate::serve::error::Problem;
use crate::serve::people::{Act, People};
use crate::serve::sent::{self, Fields};
use crate::time;

/// `GET /v1/matches`.
pub(super) async fn list(State(app): Shared, request: Request) -> Result<Json<Value>, Problem> {
    let fields = Fields::of(request.uri(), &["limit"])?;
    let limit = fields.read("limit", "1 to 1000", |limit| (1..=1000).contains(limit))?.unwrap_or(50);
    compute(move || {
        let people = app.people()?;
        let matches: Result<Vec<Value>, Problem> =
            people.store().matches(limit)?.iter().map(|one| shown(people, one)).collect();
        Ok(Json(json!({"matches": matches?})))
    })
    .await
}

fn shown(people: &People, one: &Match) -> Result<Value, Problem> {
    let best = one.similarity.map(|similarity| {
        json!({"subject": one.subject, "name": one.name, "template": one.template, "similarity": short(similarity)})
    });
    let review = match one.verdict {
        None => None,
        Some(verdict) => {
            let person = one.corrected.map(|number| people.store().person(number)).transpose()?.flatten();
            Some(json!({"verdict": verdict, "subject": one.corrected, "name": person.map(|(person, _)| person.name)}))
        }
    };
    Ok(json!({
        "id": one.number,
        "at": time::text(one.at),
        "best": best,
        "decision": one.accepted.map(answer),
        "review": review,
    }))
}

/// `POST /v1/matches/{id}/review`.
pub(super) async fn review(
    State(app): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let number = number("match", &id)?;
    let who = who(&request).name;
    let fields = sent::fields(&app, request, &["verdict", "subject"]).await?;
    let verdict = match fields.one("verdict")? {
        Some("confirmed") => Verdict::Confirmed,
        Some("wrong") => Verdict::Wrong,
        other => {
            let unknown = Problem::unfit("field `verdict`", "there is no such verdict");
            return Err(unknown.found(other.unwrap_or("none")).allowed("confirmed, wrong"));
        }
    };
    let subject: Option<u32> = fields.read("subject", "the number of a subject", |_| true)?;
    app.people()?.change(Act::Review { number, verdict, subject }, who).await?;
    Ok(Json(json!({"id": number, "verdict": verdict, "subject": subject})))
}
