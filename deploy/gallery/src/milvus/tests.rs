//! What needs more than a gallery shows to programs. The server is that of tests/milvus.rs.

use super::*;

fn model() -> Model {
    Model { contract_id: "0123456789abcdef".into(), dim: 2, ..Model::default() }
}

fn named(name: &str) -> NewTemplate {
    NewTemplate { subject: Some(name.into()), ..NewTemplate::default() }
}

fn row() -> Rows<'static> {
    Rows::new(&[0.6, 0.8], 1, 2).unwrap()
}

fn subjects(milvus: &Milvus) -> Vec<String> {
    let now = milvus.snapshot().unwrap();
    let templates = now.templates(&now.select(&Filter::default()).unwrap()).unwrap();
    templates.into_iter().map(|template| template.about.subject.unwrap()).collect()
}

/// A program that is killed leaves its lock, and rows that no state knows.
#[test]
fn what_a_killed_program_leaves_is_taken_back() {
    let server = std::env::var("VITRINE_TEST_MILVUS").expect("VITRINE_TEST_MILVUS names no server; run ci/cluster");
    let address = Address::parse(&format!("{server}/killed_{}", std::process::id())).unwrap();
    let milvus = Milvus::create(&address, &Access::default(), &model()).unwrap();
    milvus.enrol(&[named("anna")], row()).unwrap();
    let (lock, _) = milvus.lock().unwrap();
    milvus.client.insert(rows::columns(2, &[named("lost")], row(), 0)).unwrap();
    // Readers do not see it, and the next to change the gallery is told how to go on.
    assert_eq!((subjects(&milvus), milvus.info().unwrap().templates), (vec!["anna".to_owned()], 1));
    assert_eq!(milvus.snapshot().unwrap().search(row(), &Ask::nearest(9)).unwrap()[0].len(), 1);
    let error = milvus.enrol(&[named("bob")], row()).unwrap_err().to_string();
    assert!(error.contains(&format!("process {} on ", std::process::id())), "{error}");
    let unlock = error.split('`').find(|part| part.contains("?unlock=")).unwrap();
    assert_eq!(Address::parse(unlock).unwrap().unlock, Some(lock_number(lock)));
    let wrong = Address { unlock: Some(5), ..address.clone() };
    let error = Milvus::open(&wrong, &Access::default()).unwrap_err().to_string();
    assert!(error.contains("no lock 5"), "{error}");
    let again = Milvus::open(&Address::parse(unlock).unwrap(), &Access::default()).unwrap();
    assert_eq!(again.enrol(&[named("bob")], row()).unwrap(), [TemplateId(2)]);
    assert_eq!(subjects(&milvus), ["anna", "bob"]);
    // One whose lock was taken away while it ran changes nothing.
    let stolen = milvus.change(|state| {
        milvus.client.insert(rows::columns(3, &[named("late")], row(), 0))?;
        milvus.client.delete(&format!("{ID} < {LOCKS}"))?;
        Ok((State { last: 3, ..state.clone() }, ()))
    });
    assert!(stolen.unwrap_err().to_string().contains("lock away"));
    assert_eq!(subjects(&milvus), ["anna", "bob"]);
    // Rows of a call that came through although it failed do not get anybody's name.
    milvus.client.insert(rows::columns(3, &[named("stray")], row(), 0)).unwrap();
    assert_eq!(milvus.enrol(&[named("carl")], row()).unwrap(), [TemplateId(3)]);
    assert_eq!(subjects(&milvus), ["anna", "bob", "carl"]);
    milvus.destroy().unwrap();
}

/// A gallery of a later program is not guessed at.
#[test]
fn another_version_is_refused() {
    let server = std::env::var("VITRINE_TEST_MILVUS").expect("VITRINE_TEST_MILVUS names no server; run ci/cluster");
    let address = Address::parse(&format!("{server}/version_{}", std::process::id())).unwrap();
    let milvus = Milvus::create(&address, &Access::default(), &model()).unwrap();
    milvus.client.insert(rows::mark(-9, "{\"version\": 2, \"shape\": []}".into(), 2)).unwrap();
    for error in [milvus.enrol(&[named("anna")], row()).unwrap_err(), milvus.snapshot().err().unwrap()] {
        assert!(matches!(error, GalleryError::Version { found: 2, known: 1, .. }), "{error}");
    }
    milvus.destroy().unwrap();
}

#[test]
fn locks_have_numbers_that_come_back() {
    for number in [0, 5, (1 << 61) - 1] {
        assert!(lock_id(number) < LOCKS);
        assert_eq!(lock_number(lock_id(number)), number);
    }
}
