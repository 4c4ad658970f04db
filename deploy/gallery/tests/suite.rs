//! What every engine promises. Each test makes new galleries with `make`.

use gallery::{Ask, Engine, Filter, GalleryError, MAX_TAGS, Model, NewTemplate, Rows, Selection, TemplateId};

use crate::support::{Dice, enrol, model, named, names, row_of, unit_rows};

pub type Make<'a> = &'a dyn Fn(&Model) -> Box<dyn Engine>;

/// A promise and its name, by which an engine is excused from it.
type Promise = (&'static str, fn(Make<'_>));

/// A promise that an engine does not keep, and why.
pub type Exception = (&'static str, &'static str);

macro_rules! promises {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn(Make<'_>))),*] };
}

const PROMISES: [Promise; 9] = promises![
    an_empty_gallery_answers,
    what_is_enrolled_is_found,
    hits_are_ranked_by_similarity_and_then_by_id,
    bad_rows_and_names_change_nothing,
    removed_templates_are_gone_and_their_ids_too,
    snapshots_see_nothing_of_what_comes_later,
    filters_choose_before_the_search,
    tags_are_limited_and_give_their_place_back,
    columns_say_in_numbers_what_templates_say,
];

pub fn all(make: Make<'_>) {
    all_but(&[], make);
}

/// All but the exceptions.
pub fn all_but(exceptions: &[Exception], make: Make<'_>) {
    for (name, why) in exceptions {
        assert!(PROMISES.iter().any(|(promise, _)| promise == name), "`{name}` is no promise");
        assert!(!why.is_empty());
    }
    for (name, promise) in PROMISES {
        if !exceptions.iter().any(|(exception, _)| *exception == name) {
            promise(make);
        }
    }
}

fn one(values: &[f32]) -> Rows<'_> {
    Rows::new(values, 1, values.len()).unwrap()
}

fn an_empty_gallery_answers(make: Make<'_>) {
    let engine = make(&model(3));
    let now = engine.snapshot().unwrap();
    assert_eq!(now.search(one(&[1.0, 0.0, 0.0]), &Ask::nearest(5)).unwrap(), [vec![]]);
    assert_eq!(now.search(Rows::new(&[], 0, 3).unwrap(), &Ask::nearest(5)).unwrap().len(), 0);
    assert_eq!((now.count(&Filter::default()).unwrap(), now.templates(&[]).unwrap().len()), (0, 0));
    let info = engine.info().unwrap();
    assert_eq!((info.templates, info.subjects, info.model), (0, 0, model(3)));
}

fn what_is_enrolled_is_found(make: Make<'_>) {
    let engine = make(&model(8));
    let about = NewTemplate {
        subject: Some("Müller, \"Anna\"; DROP TABLE".into()),
        camera: Some(7),
        taken: Some(-1),
        tags: vec!["gate".into(), "day".into(), "gate".into()],
        source: "a/b c.jpg".into(),
    };
    let nobody = NewTemplate::default();
    let values = [row_of("a", 8), row_of("b", 8)].concat();
    let ids = engine.enrol(&[about.clone(), nobody.clone()], Rows::new(&values, 2, 8).unwrap()).unwrap();
    let now = engine.snapshot().unwrap();
    let hits = now.search(one(&row_of("a", 8)), &Ask::nearest(1)).unwrap();
    assert_eq!(hits[0][0].id, ids[0]);
    assert_eq!(hits[0][0].similarity, metrics::dot(&row_of("a", 8), &row_of("a", 8)));
    let found = now.templates(&[ids[1], ids[0], ids[1]]).unwrap();
    let tidied = NewTemplate { tags: vec!["day".into(), "gate".into()], ..about };
    let about: Vec<_> = found.iter().map(|template| &template.about).collect();
    assert_eq!(about, [&nobody, &tidied, &nobody]);
    assert_eq!(now.vectors(&[ids[1]]).unwrap().unwrap_or_else(|| row_of("b", 8)), row_of("b", 8));
    assert_eq!(engine.info().unwrap().subjects, 1);
}

fn hits_are_ranked_by_similarity_and_then_by_id(make: Make<'_>) {
    let engine = make(&model(2));
    let values = [0.6, 0.8, 1.0, 0.0, 0.6, 0.8, -1.0, 0.0, 0.6, 0.8];
    let templates: Vec<NewTemplate> = (0..5).map(|at| named(&format!("p{at}"))).collect();
    let ids = engine.enrol(&templates, Rows::new(&values, 5, 2).unwrap()).unwrap();
    assert!(ids.is_sorted());
    let now = engine.snapshot().unwrap();
    let ranked = |ask: &Ask| -> Vec<usize> {
        let hits = &now.search(one(&[0.6, 0.8]), ask).unwrap()[0];
        hits.iter().map(|hit| ids.iter().position(|id| *id == hit.id).unwrap()).collect()
    };
    assert_eq!(ranked(&Ask::nearest(99)), [0, 2, 4, 1, 3]);
    assert_eq!(ranked(&Ask::nearest(2)), [0, 2]);
    assert_eq!(ranked(&Ask::nearest(0)), [0; 0]);
    let good = metrics::dot(&[0.6, 0.8], &[1.0, 0.0]);
    assert_eq!(ranked(&Ask { min_similarity: Some(good), ..Ask::nearest(9) }), [0, 2, 4, 1]);
    assert_eq!(ranked(&Ask { min_similarity: Some(good.next_up()), ..Ask::nearest(9) }), [0, 2, 4]);
}

fn bad_rows_and_names_change_nothing(make: Make<'_>) {
    let engine = make(&model(2));
    enrol(&*engine, &["anna"], 2).unwrap();
    let good = [0.6, 0.8];
    for (bad, wanted) in
        [([f32::NAN, 0.0], "row 1: value 0 is NaN"), ([0.0, 0.0], "length is 0.0000"), ([1.0, 0.5], "length")]
    {
        let values = [good, bad].concat();
        let error = engine.enrol(&[named("a"), named("b")], Rows::new(&values, 2, 2).unwrap()).unwrap_err();
        assert!(matches!(error, GalleryError::Row { row: 1, .. }) && error.to_string().contains(wanted), "{error}");
        let error = engine.snapshot().unwrap().search(Rows::new(&values, 2, 2).unwrap(), &Ask::nearest(1)).unwrap_err();
        assert!(matches!(error, GalleryError::Row { row: 1, .. }), "{error}");
    }
    let error = engine.enrol(&[named("a")], one(&[1.0, 0.0, 0.0])).unwrap_err();
    assert_eq!(error.to_string(), "rows of 3 values, the gallery has rows of 2");
    assert!(engine.snapshot().unwrap().search(one(&[1.0]), &Ask::nearest(1)).is_err());
    let long = "x".repeat(2000);
    for name in ["", " \t", "a\nb", "\u{1b}[31m", &long] {
        let tagged = NewTemplate { tags: vec![name.into()], ..NewTemplate::default() };
        for template in [named(name), tagged] {
            let error = engine.enrol(&[named("a"), template], Rows::new(&[good, good].concat(), 2, 2).unwrap());
            let error = error.unwrap_err();
            assert!(matches!(error, GalleryError::Field { what: "subject" | "tag", .. }), "{error}");
            assert!(error.to_string().len() < 300 && !error.to_string().contains('\u{1b}'), "{error}");
        }
    }
    let camera = NewTemplate { camera: Some(u32::MAX), ..NewTemplate::default() };
    assert!(matches!(engine.enrol(&[camera], one(&good)), Err(GalleryError::Field { what: "camera", .. })));
    assert_eq!(names(&*engine.snapshot().unwrap(), 2), ["anna"]);
    assert_eq!(engine.enrol(&[], Rows::new(&[], 0, 2).unwrap()).unwrap(), []);
}

fn removed_templates_are_gone_and_their_ids_too(make: Make<'_>) {
    let engine = make(&model(4));
    let ids = enrol(&*engine, &["anna", "bob", "anna", "carl"], 4).unwrap();
    let none = TemplateId(u64::MAX >> 1);
    let error = engine.remove(&Selection::Templates(vec![ids[0], none])).unwrap_err();
    assert!(matches!(error, GalleryError::NoTemplate { id } if id == none), "{error}");
    let error = engine.remove(&Selection::Subject("nobody".into())).unwrap_err();
    assert!(matches!(error, GalleryError::NoSubject { .. }), "{error}");
    assert_eq!(engine.info().unwrap().templates, 4);
    assert_eq!(engine.remove(&Selection::Subject("anna".into())).unwrap(), 2);
    assert_eq!(names(&*engine.snapshot().unwrap(), 4), ["bob", "carl"]);
    assert_eq!(engine.remove(&Selection::Templates(vec![ids[3], ids[3]])).unwrap(), 1);
    assert!(engine.remove(&Selection::Templates(vec![ids[3]])).is_err());
    assert_eq!(engine.remove(&Selection::Templates(vec![])).unwrap(), 0);
    let now = engine.snapshot().unwrap();
    assert_eq!(now.search(one(&row_of("anna", 4)), &Ask::nearest(9)).unwrap()[0].len(), 1);
    assert!(matches!(now.templates(&[ids[0]]), Err(GalleryError::NoTemplate { .. })));
    assert!(!matches!(now.vectors(&[ids[0]]), Ok(Some(_))));
    let again = enrol(&*engine, &["anna"], 4).unwrap();
    assert!(again[0] > ids[3], "ids are never used again");
    assert_eq!(names(&*engine.snapshot().unwrap(), 4), ["bob", "anna"]);
    let info = engine.info().unwrap();
    assert_eq!((info.templates, info.subjects), (2, 2));
}

fn snapshots_see_nothing_of_what_comes_later(make: Make<'_>) {
    let engine = make(&model(4));
    let ids = enrol(&*engine, &["anna", "bob"], 4).unwrap();
    let before = engine.snapshot().unwrap();
    let generation = engine.info().unwrap().generation;
    enrol(&*engine, &["carl"], 4).unwrap();
    assert!(engine.info().unwrap().generation > generation);
    assert_eq!(names(&*before, 4), ["anna", "bob"]);
    assert_eq!(before.count(&Filter::default()).unwrap(), 2);
    engine.remove(&Selection::Subject("bob".into())).unwrap();
    // What is removed later may be missing, and is never anybody else.
    let hits = before.search(one(&row_of("bob", 4)), &Ask::nearest(9)).unwrap();
    let found: Vec<TemplateId> = hits[0].iter().map(|hit| hit.id).collect();
    assert!(found == [ids[1], ids[0]] || found == [ids[0]], "{found:?}");
    let hit = hits[0].iter().find(|hit| hit.id == ids[0]).unwrap();
    assert_eq!(hit.similarity, metrics::dot(&row_of("bob", 4), &row_of("anna", 4)));
    assert_eq!(names(&*engine.snapshot().unwrap(), 4), ["anna", "carl"]);
}

fn filters_choose_before_the_search(make: Make<'_>) {
    let engine = make(&model(4));
    let mut dice = Dice(5);
    let (count, dim) = (300, 4);
    let mut templates = Vec::new();
    for _ in 0..count {
        let tags: Vec<String> =
            ["day", "gate", "hat"].into_iter().filter(|_| dice.below(2) == 0).map(String::from).collect();
        templates.push(NewTemplate {
            subject: (dice.below(5) > 0).then(|| format!("p{}", dice.below(4))),
            camera: (dice.below(5) > 0).then(|| dice.below(3) as u32),
            taken: (dice.below(5) > 0).then(|| dice.below(100) as i64 - 50),
            tags,
            source: String::new(),
        });
    }
    let values = unit_rows(&mut dice, count, dim);
    let ids = engine.enrol(&templates, Rows::new(&values, count, dim).unwrap()).unwrap();
    let now = engine.snapshot().unwrap();
    let any = Filter::default;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for filter in [
        any(),
        Filter { subjects: Some(words(&["p1", "p3", "unknown", "p1"])), ..any() },
        Filter { subjects: Some(vec![]), ..any() },
        Filter { cameras: Some(vec![2, 0, 9, u32::MAX]), ..any() },
        Filter { from: Some(-10), ..any() },
        Filter { until: Some(0), ..any() },
        Filter { from: Some(i64::MIN), until: Some(i64::MAX), ..any() },
        Filter { tags: words(&["gate", "day"]), ..any() },
        Filter { tags: words(&["gate", "unknown"]), ..any() },
        Filter {
            subjects: Some(words(&["p0"])),
            cameras: Some(vec![1]),
            from: Some(0),
            tags: words(&["hat"]),
            ..any()
        },
    ] {
        let passing: Vec<usize> = (0..count).filter(|at| filter.passes(&templates[*at])).collect();
        assert_eq!(now.count(&filter).unwrap(), passing.len() as u64, "{filter:?}");
        let selected = now.select(&filter).unwrap();
        assert_eq!(selected, passing.iter().map(|at| ids[*at]).collect::<Vec<_>>(), "{filter:?}");
        for count in [0, 1, 7, 1000] {
            let sample = now.sample(&filter, count).unwrap();
            let some = count.min(selected.len());
            let wanted: Vec<TemplateId> = (0..some).map(|at| selected[at * selected.len() / some]).collect();
            assert_eq!(sample, wanted, "{count} of {filter:?}");
        }
        let probe = &values[..dim];
        let similarity = |at: &usize| metrics::dot(probe, &values[at * dim..][..dim]);
        let mut wanted: Vec<(TemplateId, f32)> = passing.iter().map(|at| (ids[*at], similarity(at))).collect();
        wanted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        wanted.truncate(20);
        let hits = now.search(one(probe), &Ask { filter: filter.clone(), ..Ask::nearest(20) }).unwrap();
        assert_eq!(hits[0].iter().map(|hit| (hit.id, hit.similarity)).collect::<Vec<_>>(), wanted, "{filter:?}");
    }
}

fn tags_are_limited_and_give_their_place_back(make: Make<'_>) {
    let engine = make(&model(2));
    let row = [0.6, 0.8];
    let tagged = |tags: std::ops::Range<usize>| NewTemplate {
        tags: tags.map(|tag| format!("t{tag}")).collect(),
        ..NewTemplate::default()
    };
    let ids =
        engine.enrol(&[tagged(0..MAX_TAGS), tagged(0..60)], Rows::new(&[row, row].concat(), 2, 2).unwrap()).unwrap();
    let error = engine.enrol(&[tagged(0..MAX_TAGS + 1)], one(&row)).unwrap_err();
    assert_eq!(error.to_string(), "65 tags; a gallery holds at most 64");
    engine.remove(&Selection::Templates(vec![ids[0]])).unwrap();
    let new = engine.enrol(&[tagged(70..74)], one(&row)).unwrap();
    assert!(engine.enrol(&[tagged(80..81)], one(&row)).is_err());
    let now = engine.snapshot().unwrap();
    let with = |tag: &str| now.select(&Filter { tags: vec![tag.into()], ..Filter::default() }).unwrap();
    assert_eq!((with("t59"), with("t60"), with("t73")), (vec![ids[1]], vec![], new.clone()));
    let tags = &now.templates(&[ids[1], new[0]]).unwrap();
    assert_eq!((tags[0].about.tags.len(), tags[1].about.tags.len()), (60, 4));
}

fn columns_say_in_numbers_what_templates_say(make: Make<'_>) {
    let engine = make(&model(4));
    let about = |name: &str, camera, taken| NewTemplate { camera, taken, ..named(name) };
    let nobody = NewTemplate { camera: Some(0), ..NewTemplate::default() };
    let templates =
        [about("anna", Some(0), None), nobody, about("bob", None, Some(-5)), about("anna", Some(3), Some(0))];
    let values: Vec<f32> = (0..4).flat_map(|at| row_of(&format!("r{at}"), 4)).collect();
    let ids = engine.enrol(&templates, Rows::new(&values, 4, 4).unwrap()).unwrap();
    engine.remove(&Selection::Templates(vec![ids[0]])).unwrap();
    let now = engine.snapshot().unwrap();
    let asked = ["bob", "carl", "anna", "bob"].map(str::to_owned);
    let [bob, carl, anna, again] = now.numbers(&asked).unwrap()[..] else { panic!("a number for each name") };
    assert!(bob.is_some() && anna.is_some() && bob != anna && bob == again && carl.is_none());
    assert_eq!(now.subjects().unwrap(), 2);
    let columns = |filter: &Filter| {
        let mut all = Vec::new();
        now.columns(filter, &mut |own| all.push((own.id, own.subject, own.camera, own.taken))).unwrap();
        all
    };
    let [nobody, second, third] =
        [(ids[1], None, Some(0), None), (ids[2], bob, None, Some(-5)), (ids[3], anna, Some(3), Some(0))];
    assert_eq!(columns(&Filter::default()), [nobody, second, third]);
    assert_eq!(columns(&Filter { subjects: Some(asked[1..3].to_vec()), ..Filter::default() }), [third]);
}
