//! Pictures in, embeddings, comparisons and ranked matches out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use gallery::{Filter, Found, TemplateId};
use metrics::open_set::Fusion;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Shared, answer, compute, short, who};
use crate::gallery::{Embeddings, Gallery, Template};
use crate::report::Decision;
use crate::search::{self, Ask, By};
use crate::serve::error::Problem;
use crate::serve::people::{Act, People};
use crate::serve::sent::{Fields, Row, Rows, Sent};
use crate::serve::state::{App, Loaded};
use crate::{identity::Identity, time, verify as one_to_one};

/// Most matches of a search.
const MOST: usize = 1000;

/// Field that says whether small pictures are kept.
const KEEP: &str = "keep_picture";

/// Reads a request and decodes its pictures.
pub(super) async fn rows(
    app: &Arc<App>,
    loaded: &Arc<Loaded>,
    request: Request,
    fields: &'static [&'static str],
) -> Result<Rows, Problem> {
    let sent = Sent::read(app, request, fields).await?;
    let keep = match fields.contains(&KEEP) {
        true => sent.fields.read(KEEP, "true, false", |_| true)?.unwrap_or(false),
        false => false,
    };
    let (app, loaded) = (Arc::clone(app), Arc::clone(loaded));
    compute(move || sent.rows(&app, &loaded.model, keep)).await
}

/// The only row of a request.
fn only(rows: &mut Rows) -> Result<Row, Problem> {
    match (rows.rows.len(), rows.rows.pop()) {
        (1, Some(row)) => Ok(row),
        (count, _) => {
            let many = Problem::unfit("body", "one person is looked for at a time");
            Err(many.found(format!("{count} pictures")).allowed("1 picture, or 1 of each input"))
        }
    }
}

/// What is said about the pictures of a row.
pub(super) fn quality(row: &Row) -> Vec<Value> {
    let one = |(quality, problems): &(crate::quality::Quality, Vec<String>)| {
        let problems: Vec<Value> = problems.iter().map(|text| json!({"kind": kind(text), "text": text})).collect();
        json!({
            "size": quality.size,
            "brightness": quality.brightness,
            "sharpness": quality.sharpness,
            "problems": problems,
        })
    };
    row.quality.iter().map(one).collect()
}

/// The word before the colon: tiny, dark or blurred.
pub(super) fn kind(problem: &str) -> &str {
    problem.split(':').next().unwrap_or_default()
}

#[derive(Serialize)]
pub(super) struct Embedded {
    embeddings: Vec<Vec<f32>>,
}

/// `POST /v1/embed`.
pub(super) async fn embed(State(app): Shared, request: Request) -> Result<Json<Embedded>, Problem> {
    let loaded = app.loaded();
    let Rows { rows, held: _held, .. } = rows(&app, &loaded, request, &[]).await?;
    let embeddings = loaded.embed(rows.into_iter().map(|row| row.inputs).collect()).await?;
    Ok(Json(Embedded { embeddings }))
}

const VERIFY: &[&str] = &["subject", "far", "threshold"];

/// `POST /v1/verify`.
pub(super) async fn verify(State(app): Shared, request: Request) -> Result<Json<Value>, Problem> {
    let loaded = app.loaded();
    let Rows { fields, rows, held } = rows(&app, &loaded, request, VERIFY).await?;
    let subject: Option<u32> = fields.read("subject", "the number of a subject", |_| true)?;
    let far = fields.read("far", "a rate above 0 and below 1", |rate| *rate > 0.0 && *rate < 1.0)?;
    let chosen = fields.read("threshold", "a cosine similarity from -1 to 1", |value| (-1.0..=1.0).contains(value))?;
    if far.is_some() && chosen.is_some() {
        return Err(Problem::unfit("fields", "`far` and `threshold` both decide").allowed("one of them"));
    }
    let needed = if subject.is_some() { 1 } else { 2 };
    if rows.len() != needed {
        let found = format!("{} pictures", rows.len());
        let allowed = "two pictures, or one and `subject`";
        return Err(Problem::unfit("body", "two are compared").found(found).allowed(allowed));
    }
    let quality: Vec<Value> = rows.iter().flat_map(quality).collect();
    let embedded = loaded.embed(rows.into_iter().map(|row| row.inputs).collect()).await?;
    compute(move || {
        let _held = held;
        let enrolled = match subject {
            None => vec![embedded[1].clone()],
            Some(number) => {
                let (_, templates) = app.people()?.person(number)?;
                let gallery = app.people()?.now()?;
                let rows: Vec<usize> = templates.iter().map(|one| one.template.id.0 as usize).collect();
                let dim = gallery.model().dim.max(1);
                gallery.vectors(&rows)?.chunks_exact(dim).map(<[f32]>::to_vec).collect()
            }
        };
        let similarity = one_to_one::similarity(&embedded[0], enrolled.iter().map(Vec::as_slice)).unwrap_or(f32::MIN);
        let far = far.unwrap_or(app.config.far);
        let (threshold, decision) = match chosen {
            Some(chosen) => (Some(f64::from(chosen)), Decision::chosen(chosen, "threshold", "--far")),
            None => match one_to_one::threshold(loaded.thresholds(), far, enrolled.len()) {
                None => (None, Decision::none()),
                Some(record) => {
                    let sets = one_to_one::sets(record, enrolled.len()).unwrap_or(1);
                    (Some(record.similarity), Decision::verification(record, sets))
                }
            },
        };
        let decided = threshold.map(|threshold| answer(f64::from(similarity) >= threshold));
        Ok(Json(json!({
            "similarity": short(similarity),
            "threshold": threshold,
            "decision": decided,
            "meaning": decision.meaning,
            "templates": enrolled.len(),
            "quality": quality,
        })))
    })
    .await
}

const SEARCH: &[&str] = &["k", "min", "by", "subject", "camera", "since", "until", "tag"];

/// How a search is asked for.
struct Asked {
    k: usize,
    min: Option<f32>,
    by: By,
    subjects: Vec<u32>,
    filter: Filter,
}

impl Asked {
    fn of(fields: &Fields) -> Result<Self, Problem> {
        let k = fields.read("k", "1 to 1000", |k| (1..=MOST).contains(k))?.unwrap_or(10);
        let min = fields.read("min", "a cosine similarity from -1 to 1", |min| (-1.0..=1.0).contains(min))?;
        let by = match fields.one("by")? {
            None | Some("template") => By::Template,
            Some("subject") => By::Subject(Fusion::Max),
            Some(other) => {
                let unknown = Problem::unfit("field `by`", "there is no such kind of match");
                return Err(unknown.found(other).allowed("template, subject"));
            }
        };
        let cameras: Vec<u32> = fields.read_all("camera", "a camera's number")?;
        let filter = Filter {
            subjects: None,
            cameras: Some(cameras).filter(|cameras| !cameras.is_empty()),
            from: fields.time("since")?,
            until: fields.time("until")?,
            tags: fields.all("tag").to_vec(),
        };
        Ok(Self { k, min, by, subjects: fields.read_all("subject", "the number of a subject")?, filter })
    }
}

/// `POST /v1/search`.
pub(super) async fn search(State(app): Shared, request: Request) -> Result<Json<Value>, Problem> {
    let people = app.people()?;
    let who = who(&request).name;
    let loaded = app.loaded();
    let mut rows = rows(&app, &loaded, request, SEARCH).await?;
    let asked = Asked::of(&rows.fields)?;
    let row = only(&mut rows)?;
    let quality = quality(&row);
    let values = loaded.embed(vec![row.inputs]).await?.concat();
    let held = rows.held;
    let searched = Arc::clone(&app);
    let (first, mut answer) = compute(move || {
        let _held = held;
        found(&searched, &loaded, values, asked)
    })
    .await?;
    // Nobody learns what was found before it is noted who asked.
    answer["id"] = people.change(Act::Match(first), who).await?.number.into();
    answer["quality"] = quality.into();
    Ok(Json(answer))
}

/// The best match, and all of them.
fn found(app: &App, loaded: &Loaded, values: Vec<f32>, asked: Asked) -> Result<(Found, Value), Problem> {
    let people = app.people()?;
    let now = people.now()?;
    let (threshold, decision) = app.decision(loaded, people.size()?);
    let Asked { k, min, by, subjects, mut filter } = asked;
    if !subjects.is_empty() {
        let names: Result<Vec<_>, _> = subjects.iter().map(|number| people.person(*number)).collect();
        filter.subjects = Some(names?.into_iter().map(|(person, _)| person.name).collect());
    }
    let now = now.filtered(filter)?;
    let dim = values.len();
    let probe = Template { path: "probe".into(), ..Template::default() };
    let probes = Embeddings { values, dim, templates: vec![probe], folder: std::path::PathBuf::new() };
    let ask = Ask { k, min_similarity: min, by, ..Ask::default() };
    let ranked = search::rank(&probes, &now, &ask, false, |_| ())?;
    let matches = ranked.matches.into_iter().next().unwrap_or_default();
    let best = matches.first();
    let first = Found {
        template: best.map(|best| TemplateId(best.row as u64)),
        similarity: best.map(|best| best.similarity),
        accepted: threshold.map(|threshold| best.is_some_and(|best| best.similarity >= threshold)),
    };
    let answer = json!({
        "id": null,
        "matches": listed(people, &now, &matches, threshold)?,
        "threshold": threshold.map(short),
        "meaning": decision.meaning,
    });
    Ok((first, answer))
}

/// All that is said about matches.
fn listed(
    people: &People,
    now: &Gallery,
    matches: &[search::Match],
    threshold: Option<f32>,
) -> Result<Vec<Value>, Problem> {
    let rows: Vec<usize> = matches.iter().map(|one| one.row).collect();
    let templates = now.templates(&rows)?;
    let name = |template: &Template| match &template.identity {
        Identity::Person(name) => Some(name.text.clone()),
        _ => None,
    };
    let names: Vec<Option<String>> = templates.iter().map(name).collect();
    let known: Vec<String> = names.iter().flatten().cloned().collect();
    let mut numbers = now.numbers(&known)?.into_iter();
    let mut listed = Vec::new();
    for (at, ((one, template), name)) in matches.iter().zip(templates).zip(names).enumerate() {
        let subject = name.as_ref().and_then(|_| numbers.next().flatten());
        let id = TemplateId(one.row as u64);
        listed.push(json!({
            "rank": at + 1,
            "subject": subject,
            "name": name,
            "template": id,
            "similarity": short(one.similarity),
            "decision": threshold.map(|threshold| answer(one.similarity >= threshold)),
            "camera": template.camera,
            "taken": template.taken.map(time::text),
            "tags": template.tags,
            "picture": people.store().picture(id)?.map(|_| picture_of(id)),
        }));
    }
    Ok(listed)
}

/// Where the picture of a template is.
pub(super) fn picture_of(id: TemplateId) -> String {
    format!("/v1/templates/{}/picture", id.0)
}
