//! Who is enrolled: list, enrol, merge, remove.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use gallery::{Person, TemplateId};
use serde_json::{Value, json};

use super::embed::{kind, picture_of, rows};
use super::{Shared, compute, number, short, who};
use crate::gallery::{OWN, Template};
use crate::identity::Identity;
use crate::serve::error::Problem;
use crate::serve::people::{Act, People};
use crate::serve::sent::{Fields, Row, Rows, fields};
use crate::serve::state::Loaded;
use crate::{time, verify};

/// From here on a template may be the same picture again. Other batch sizes change a similarity by less.
const DUPLICATE: f32 = 1.0 - 1e-4;

/// From here on somebody else is very similar, where nothing is calibrated.
const SIMILAR: f32 = 0.9;

/// Templates of the gallery that each new one is compared with: the nearest.
const NEAREST: usize = 8;

/// `GET /v1/subjects`.
pub(super) async fn list(State(app): Shared, request: Request) -> Result<Json<Value>, Problem> {
    let fields = Fields::of(request.uri(), &["after", "limit", "q"])?;
    let after: u32 = fields.read("after", "the number of a subject", |_| true)?.unwrap_or(0);
    let limit: usize = fields.read("limit", "1 to 1000", |limit| (1..=1000).contains(limit))?.unwrap_or(100);
    let part = fields.one("q")?.filter(|part| !part.is_empty()).map(str::to_owned);
    compute(move || {
        let mut people = app.people()?.store().people(after, limit + 1, part.as_deref())?;
        let more = people.len() > limit;
        people.truncate(limit);
        let next = people.last().filter(|_| more).map(|person| person.number);
        Ok(Json(json!({"subjects": people.iter().map(shown).collect::<Vec<_>>(), "next": next})))
    })
    .await
}

fn shown(person: &Person) -> Value {
    json!({
        "id": person.number,
        "name": person.name,
        "templates": person.templates,
        "picture": person.picture.map(picture_of),
        "enrolled": person.enrolled.map(time::text),
    })
}

/// `GET /v1/subjects/{id}`.
pub(super) async fn one(State(app): Shared, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let number = number("subject", &id)?;
    compute(move || {
        let (person, templates) = app.people()?.person(number)?;
        let template = |one: &gallery::PersonTemplate| {
            let about = &one.template.about;
            json!({
                "id": one.template.id,
                "camera": about.camera,
                "taken": about.taken.map(time::text),
                "tags": about.tags.iter().filter(|tag| !tag.starts_with(OWN)).collect::<Vec<_>>(),
                "picture": one.picture.then(|| picture_of(one.template.id)),
                "enrolled": one.enrolled.map(time::text),
            })
        };
        let templates: Vec<Value> = templates.iter().map(template).collect();
        Ok(Json(json!({"id": person.number, "name": person.name, "templates": templates})))
    })
    .await
}

const ENROL: &[&str] = &["name", "camera", "taken", "tag", "keep_picture"];

/// `POST /v1/subjects`.
pub(super) async fn enrol(State(app): Shared, request: Request) -> Result<impl IntoResponse, Problem> {
    let people = app.people()?;
    let who = who(&request).name;
    let loaded = app.loaded();
    let Rows { fields, rows, held } = rows(&app, &loaded, request, ENROL).await?;
    let Some(name) = fields.identity("name")? else {
        return Err(Problem::unfit("field `name`", "who it is has to be said").found("none").allowed("a name"));
    };
    let tags = fields.all("tag").to_vec();
    if let Some(own) = tags.iter().find(|tag| tag.starts_with(OWN)) {
        let taken = Problem::unfit("field `tag`", "this is no word to filter by").found(own);
        return Err(taken.allowed(format!("words that do not begin with {OWN}")));
    }
    let camera = fields.read("camera", "a camera's number, from 0", |camera| *camera < gallery::MAX_CAMERA)?;
    let taken = fields.time("taken")?;
    let mut warnings = Vec::new();
    let (mut inputs, mut templates, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    for (at, row) in rows.into_iter().enumerate() {
        warnings.extend(poor(at, &row));
        let template = Template {
            path: "sent to the service".into(),
            missing: row.missing,
            identity: Identity::given(&name),
            camera,
            taken,
            tags: tags.clone(),
            ..Template::default()
        };
        templates.push(template.to_stored());
        inputs.push(row.inputs);
        pictures.push(row.small);
    }
    let embedded = loaded.embed(inputs).await?;
    let (looked, same, values) = (Arc::clone(&app), name.clone(), embedded.concat());
    let compared = compute(move || alike(looked.people()?, &loaded, &embedded, &same)).await?;
    warnings.extend(compared);
    let ids = people.change(Act::Enrol { templates, values, pictures }, who).await?.templates;
    let (app, name) = (Arc::clone(&app), name);
    let answer = compute(move || {
        let subject = app.people()?.now()?.numbers(std::slice::from_ref(&name))?.pop().flatten();
        Ok(json!({"subject": subject, "name": name, "templates": ids, "warnings": warnings}))
    })
    .await?;
    drop(held);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// What is wrong with the pictures of a row.
fn poor(at: usize, row: &Row) -> impl Iterator<Item = Value> {
    let problems = row.quality.iter().flat_map(|(_, problems)| problems);
    problems.map(move |text| json!({"kind": kind(text), "text": text, "picture": at}))
}

/// Which of the new rows are there already, or look like somebody else.
fn alike(people: &People, loaded: &Loaded, rows: &[Vec<f32>], name: &str) -> Result<Vec<Value>, Problem> {
    let calibrated = loaded.thresholds().iter().filter(|one| verify::sets(one, 1).is_some());
    let strictest = calibrated.min_by(|a, b| a.far.total_cmp(&b.far));
    let limit = strictest.map_or(SIMILAR, |one| one.similarity as f32);
    let now = people.now()?;
    let mut warnings = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let probe = gallery::Rows::new(row, 1, row.len()).map_err(crate::DeployError::from)?;
        let near = now.nearest(probe, NEAREST, Some(limit.min(DUPLICATE)))?.concat();
        let found: Vec<usize> = near.iter().map(|near| near.row).collect();
        let others = now.templates(&found)?;
        let mut told = near.iter().zip(&others).filter_map(|(near, other)| {
            let own = other.identity.text() == name;
            let kind = match own {
                true if near.similarity >= DUPLICATE => "duplicate",
                false if near.similarity >= limit => "similar",
                _ => return None,
            };
            Some((kind, near.similarity, other.identity.text().to_owned()))
        });
        if let Some((kind, similarity, other)) = told.next() {
            let subject = now.numbers(std::slice::from_ref(&other))?.pop().flatten();
            let text = match kind {
                "duplicate" => format!("this picture is enrolled already: similarity {similarity:.4}"),
                _ => format!("this looks like {other}: similarity {similarity:.4}"),
            };
            let similarity = short(similarity);
            warnings.push(json!({
                "kind": kind, "text": text, "picture": at, "subject": subject, "name": other, "similarity": similarity,
            }));
        }
    }
    Ok(warnings)
}

/// `POST /v1/subjects/{id}/merge`.
pub(super) async fn merge(
    State(app): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let into = number("subject", &id)?;
    let who = who(&request).name;
    let fields = fields(&app, request, &["from"]).await?;
    let allowed = "the number of a subject";
    let Some(from) = fields.read("from", allowed, |_| true)? else {
        return Err(Problem::unfit("field `from`", "who is merged has to be said").found("none").allowed(allowed));
    };
    let templates = app.people()?.change(Act::Merge { from, into }, who).await?.templates;
    Ok(Json(json!({"subject": into, "templates": templates})))
}

/// `DELETE /v1/subjects/{id}`.
pub(super) async fn remove(
    State(app): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let number = number("subject", &id)?;
    let removed = app.people()?.change(Act::Remove(number), who(&request).name).await?.number;
    Ok(Json(json!({"removed": removed})))
}

/// `DELETE /v1/templates/{id}`.
pub(super) async fn remove_template(
    State(app): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Problem> {
    let id = TemplateId(number("template", &id)?);
    let removed = app.people()?.change(Act::RemoveTemplate(id), who(&request).name).await?.number;
    Ok(Json(json!({"removed": removed})))
}

/// `GET /v1/templates/{id}/picture`.
pub(super) async fn picture(State(app): Shared, Path(id): Path<String>) -> Result<impl IntoResponse, Problem> {
    let id = TemplateId(number("template", &id)?);
    compute(move || {
        let Some(jpeg) = app.people()?.store().picture(id)? else {
            return Err(Problem::missing(format!("template {}", id.0), "it has no picture, or is not enrolled"));
        };
        Ok(([(header::CONTENT_TYPE, "image/jpeg")], jpeg))
    })
    .await
}
