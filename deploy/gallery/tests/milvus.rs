//! A gallery in a Milvus server, which `ci/cluster` starts and names in `VITRINE_TEST_MILVUS`.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use gallery::milvus::{Access, Address, Milvus};
use gallery::{
    Ability, Ask, Engine, Filter, GalleryError, Memory, Model, NewTemplate, Rows, Selection, Store, TemplateId,
};

use crate::suite::{self, Exception};
use crate::support::{Dice, enrol, model, named, names, row_of, scratch, unit_rows};

/// What the suite asks of every engine and this one does not do.
const EXCEPTIONS: [Exception; 1] = [(
    "tags_are_limited_and_give_their_place_back",
    "tags are texts here, not the bits of a number: a template has at most 64, a gallery any number",
)];

/// The address of a gallery that no other test has.
fn fresh() -> Address {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let server = std::env::var("VITRINE_TEST_MILVUS").expect("VITRINE_TEST_MILVUS names no server; run ci/cluster");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Address::parse(&format!("{server}/test_{}_{number}", std::process::id())).unwrap()
}

fn access() -> Access {
    Access::default()
}

/// A gallery that is deleted when the test is done with it.
#[derive(Debug)]
struct Passing(Option<Milvus>);

impl Passing {
    fn new(model: &Model) -> (Self, Address) {
        let address = fresh();
        (Self(Some(Milvus::create(&address, &access(), model).unwrap())), address)
    }
}

impl std::ops::Deref for Passing {
    type Target = Milvus;

    fn deref(&self) -> &Milvus {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.take().map(Milvus::destroy).unwrap().unwrap();
    }
}

impl Engine for Passing {
    fn enrol(&self, templates: &[NewTemplate], values: Rows<'_>) -> Result<Vec<TemplateId>, GalleryError> {
        (**self).enrol(templates, values)
    }

    fn remove(&self, what: &Selection) -> Result<u64, GalleryError> {
        (**self).remove(what)
    }

    fn snapshot(&self) -> Result<Box<dyn gallery::Snapshot>, GalleryError> {
        (**self).snapshot()
    }

    fn info(&self) -> Result<gallery::Info, GalleryError> {
        (**self).info()
    }

    fn lacks(&self) -> &'static [gallery::Lack] {
        (**self).lacks()
    }
}

#[test]
fn the_cluster_keeps_every_promise_but_its_exceptions() {
    suite::all_but(&EXCEPTIONS, &|model| Box::new(Passing::new(model).0));
}

#[test]
fn what_it_cannot_do_is_refused() {
    let (gallery, address) = Passing::new(&model(4));
    enrol(&*gallery, &["anna"], 4).unwrap();
    for ability in [Ability::Erase, Ability::RemoveWhole, Ability::AnyHits] {
        let error = gallery.require(ability).unwrap_err();
        assert!(matches!(error, GalleryError::Unsupported { .. }) && error.to_string().contains("Milvus"), "{error}");
    }
    let probe = row_of("anna", 4);
    let probe = Rows::new(&probe, 1, 4).unwrap();
    let error = gallery.snapshot().unwrap().search(probe, &Ask::nearest(10_001)).unwrap_err();
    assert!(matches!(error, GalleryError::Unsupported { .. }), "{error}");
    assert_eq!(gallery.snapshot().unwrap().search(probe, &Ask::nearest(10_000)).unwrap()[0].len(), 1);
    // A gallery is not made over another, and rows it cannot store are refused before anything is made.
    let error = Milvus::create(&address, &access(), &model(4)).unwrap_err();
    assert!(error.to_string().contains("there is a collection of that name"), "{error}");
    for dim in [0, 1, 32_769] {
        let error = Milvus::create(&fresh(), &access(), &model(dim)).unwrap_err();
        assert!(matches!(error, GalleryError::Field { what: "dim", .. }), "{error}");
    }
}

#[test]
fn tags_are_limited_on_a_template_only() {
    let (gallery, _) = Passing::new(&model(2));
    let tagged = |from: usize, count: usize| NewTemplate {
        tags: (from..from + count).map(|tag| format!("t{tag}")).collect(),
        ..NewTemplate::default()
    };
    let rows = [0.6, 0.8].repeat(2);
    let ids = gallery.enrol(&[tagged(0, 64), tagged(32, 64)], Rows::new(&rows, 2, 2).unwrap()).unwrap();
    let error = gallery.enrol(&[tagged(0, 65)], Rows::new(&rows[..2], 1, 2).unwrap()).unwrap_err();
    assert!(matches!(error, GalleryError::Field { what: "number of tags", .. }), "{error}");
    let now = gallery.snapshot().unwrap();
    let with = |tag: &str| now.select(&Filter { tags: vec![tag.into()], ..Filter::default() }).unwrap();
    assert_eq!((with("t0"), with("t40"), with("t95"), with("t96")), (vec![ids[0]], ids.clone(), vec![ids[1]], vec![]));
}

#[test]
fn a_gallery_is_opened_again_and_keeps_its_model() {
    let (gallery, address) = Passing::new(&model(4));
    enrol(&*gallery, &["anna", "bob"], 4).unwrap();
    let again = Milvus::open(&address, &access()).unwrap();
    assert_eq!(again.info().unwrap().model, model(4));
    assert_eq!(names(&*again.snapshot().unwrap(), 4), ["anna", "bob"]);
    // Two that are open see each other's changes.
    enrol(&again, &["carl"], 4).unwrap();
    gallery.remove(&Selection::Subject("bob".into())).unwrap();
    assert_eq!(names(&*again.snapshot().unwrap(), 4), ["anna", "carl"]);
    // Another gallery under the same name is not taken for this one.
    drop(gallery);
    let other = Model { contract_id: "another".into(), ..model(4) };
    let _other = Passing(Some(Milvus::create(&address, &access(), &other).unwrap()));
    let error = enrol(&again, &["dora"], 4).unwrap_err();
    assert!(error.to_string().contains("made anew"), "{error}");
    assert!(again.snapshot().is_err());
    enrol(&Milvus::open(&address, &access()).unwrap(), &["dora"], 4).unwrap();
}

#[test]
fn what_is_no_gallery_is_refused() {
    let error = Milvus::open(&fresh(), &access()).unwrap_err();
    assert!(matches!(error, GalleryError::NoGallery { .. }) && error.to_string().contains("test_"), "{error}");
    // A port where nobody listens, and one where somebody does who is no Milvus.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = Address::parse(&format!("milvus://127.0.0.1:{port}/a")).unwrap();
    drop(listener);
    let error = Milvus::open(&address, &access()).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("refused") && error.contains("start"), "{error}");
    let nobody = Address::parse("milvus://no-such-host.invalid/a").unwrap();
    let error = Milvus::open(&nobody, &access()).unwrap_err().to_string();
    assert!(error.contains("no-such-host.invalid"), "{error}");
}

/// Ties that reach beyond what is fetched at first, in the order of their ids.
#[test]
fn many_equal_rows_are_ranked_by_id() {
    let (gallery, _) = Passing::new(&model(4));
    let same = row_of("same", 4);
    let mut values = same.repeat(200);
    values.extend(row_of("other", 4).repeat(100));
    let ids = gallery.enrol(&vec![NewTemplate::default(); 300], Rows::new(&values, 300, 4).unwrap()).unwrap();
    let hits = gallery.snapshot().unwrap().search(Rows::new(&same, 1, 4).unwrap(), &Ask::nearest(50)).unwrap();
    assert_eq!(hits[0].iter().map(|hit| hit.id).collect::<Vec<_>>(), ids[..50]);
}

/// Programs that enrol at once: every row is there once, with its name, and the ids are all different.
#[test]
fn those_who_enrol_at_once_wait_for_each_other_or_are_refused() {
    let (gallery, address) = Passing::new(&model(4));
    let enrolled: Vec<String> = std::thread::scope(|scope| {
        let one = |name: &'static str| {
            let own = Milvus::open(&address, &access()).unwrap();
            let done = (0..3).filter(move |at| match enrol(&own, &[&format!("{name}{at}")], 4) {
                Ok(_) => true,
                Err(GalleryError::Held { .. }) => false,
                Err(error) => panic!("{error}"),
            });
            done.map(|at| format!("{name}{at}")).collect::<Vec<_>>()
        };
        let threads = ["a", "b"].map(|name| scope.spawn(move || one(name)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut found = names(&*gallery.snapshot().unwrap(), 4);
    found.sort();
    assert_eq!(found, enrolled);
    assert!(!enrolled.is_empty());
}

/// Descriptors of LMBN_n have 3584 values: answers of many of them do not fit into one message.
#[test]
fn long_rows_are_the_same_as_in_memory() {
    let (dim, rows, dice) = (3584, 400, &mut Dice(7));
    let (gallery, _) = Passing::new(&model(dim));
    let memory = Memory::new(model(dim));
    let values = unit_rows(dice, rows, dim);
    let templates: Vec<NewTemplate> = (0..rows).map(|row| named(&format!("p{}", row % 9))).collect();
    for part in [0..250, 250..rows] {
        let values = Rows::new(&values[part.start * dim..part.end * dim], part.len(), dim).unwrap();
        let ids = gallery.enrol(&templates[part.clone()], values).unwrap();
        assert_eq!(ids, memory.enrol(&templates[part], values).unwrap());
    }
    let (own, oracle) = (gallery.snapshot().unwrap(), memory.snapshot().unwrap());
    let probes = unit_rows(dice, 8, dim);
    let probes = [&probes[..], &values[..4 * dim]].concat();
    let probes = Rows::new(&probes, 12, dim).unwrap();
    for ask in [
        Ask::nearest(10),
        Ask::nearest(rows),
        Ask { min_similarity: Some(0.2), ..Ask::nearest(50) },
        Ask { filter: Filter { subjects: Some(vec!["p4".into()]), ..Filter::default() }, ..Ask::nearest(20) },
    ] {
        assert_eq!(own.search(probes, &ask).unwrap(), oracle.search(probes, &ask).unwrap(), "{ask:?}");
    }
    let all = own.select(&Filter::default()).unwrap();
    assert_eq!(own.vectors(&all).unwrap().unwrap(), values);
}

/// Random changes and questions, against memory.
#[test]
fn random_use_is_the_same_as_in_memory() {
    let (dim, dice) = (16, &mut Dice(11));
    let (gallery, _) = Passing::new(&model(dim));
    let memory = Memory::new(model(dim));
    for _ in 0..12 {
        let count = 1 + dice.below(40);
        let values = unit_rows(dice, count, dim);
        let templates: Vec<NewTemplate> = (0..count).map(|_| named(&format!("p{}", dice.below(12)))).collect();
        let values = Rows::new(&values, count, dim).unwrap();
        assert_eq!(gallery.enrol(&templates, values).unwrap(), memory.enrol(&templates, values).unwrap());
        let who = Selection::Subject(format!("p{}", dice.below(12)));
        assert_eq!(gallery.remove(&who).ok(), memory.remove(&who).ok());
        let (own, oracle) = (gallery.snapshot().unwrap(), memory.snapshot().unwrap());
        let ids = oracle.select(&Filter::default()).unwrap();
        assert_eq!(own.select(&Filter::default()).unwrap(), ids);
        assert_eq!(own.templates(&ids).unwrap(), oracle.templates(&ids).unwrap());
        let probes = unit_rows(dice, 3, dim);
        let probes = Rows::new(&probes, 3, dim).unwrap();
        let ask = Ask::nearest(1 + dice.below(30));
        assert_eq!(own.search(probes, &ask).unwrap(), oracle.search(probes, &ask).unwrap());
    }
    let (own, oracle) = (gallery.info().unwrap(), memory.info().unwrap());
    assert_eq!((own.templates, own.subjects), (oracle.templates, oracle.subjects));
}

/// What a cluster costs beside a folder. Not a test of anything; `ci/cluster --cost` runs it and prints.
#[test]
#[ignore = "measures, and checks nothing"]
fn cost() {
    for (rows, dim, probes) in [(10_000, 512, 100), (2_000, 3584, 100)] {
        let mut dice = Dice(3);
        let values: Vec<f32> = (0..rows)
            .flat_map(|_| {
                let mut row: Vec<f32> = (0..dim).map(|_| dice.value()).collect();
                crate::support::normalise(&mut row);
                row
            })
            .collect();
        let templates: Vec<NewTemplate> = (0..rows).map(|row| named(&format!("p{}", row / 4))).collect();
        let values = Rows::new(&values, rows, dim).unwrap();
        let folder = scratch();
        let (cluster, _) = Passing::new(&model(dim));
        let store = Store::create(&folder.path().join("g"), &model(dim)).unwrap();
        let mut found = Vec::new();
        let mut times = Vec::new();
        for engine in [&store as &dyn Engine, &*cluster] {
            let mut own = Vec::new();
            let mut timed = |begun: Instant| own.push(begun.elapsed().as_secs_f64() * 1e3);
            let begun = Instant::now();
            engine.enrol(&templates, values).unwrap();
            timed(begun);
            let many = Rows::new(&values.data()[..probes * dim], probes, dim).unwrap();
            let one = Rows::new(&values.data()[..dim], 1, dim).unwrap();
            // Once for what is done at the first search only.
            engine.snapshot().unwrap().search(one, &Ask::nearest(50)).unwrap();
            let begun = Instant::now();
            let now = engine.snapshot().unwrap();
            timed(begun);
            let begun = Instant::now();
            now.search(one, &Ask::nearest(50)).unwrap();
            timed(begun);
            let begun = Instant::now();
            found.push(now.search(many, &Ask::nearest(50)).unwrap());
            timed(begun);
            let begun = Instant::now();
            engine.remove(&Selection::Subject("p3".into())).unwrap();
            timed(begun);
            times.push(own);
        }
        assert_eq!(found[0], found[1]);
        println!("{rows} rows of {dim}: ms in a folder, in the cluster, ratio");
        for (at, what) in
            ["enrol all", "snapshot", "one probe, 50 hits", "100 probes, 50 hits", "remove 4"].iter().enumerate()
        {
            println!("  {what:22} {:9.1} {:9.1} {:9.0}x", times[0][at], times[1][at], times[1][at] / times[0][at]);
        }
    }
}
