//! Enrol people, search for them, remove one, and show that nothing of that one is left. `cargo run --example people`

use std::error::Error;

use gallery::{Ask, Engine, Model, NewTemplate, Rows, Selection, Store};

const DIM: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // Galleries belong to the model that made their rows: others are refused.
    let model = Model { contract_id: "0123456789abcdef".into(), dim: DIM, ..Model::default() };
    let people = Store::create(folder.path(), &model)?;
    let named = |name: &str| NewTemplate { subject: Some(name.into()), ..NewTemplate::default() };
    let rows = [[0.6, 0.8, 0.0, 0.0], [0.0, 0.28, 0.96, 0.0], [0.0, 0.0, 0.96, -0.28]];
    people.enrol(&["anna", "ben", "cleo"].map(named), Rows::new(rows.as_flattened(), 3, DIM)?)?;

    let probe = [0.28, 0.96, 0.0, 0.0];
    let nearest = |people: &Store| -> Result<Vec<String>, Box<dyn Error>> {
        let now = people.snapshot()?;
        let hits = now.search(Rows::new(&probe, 1, DIM)?, &Ask::nearest(2))?;
        let mut found = vec![];
        for hit in &hits[0] {
            let subject = now.templates(&[hit.id])?[0].about.subject.clone().unwrap_or_default();
            println!("{subject} {:.3}", hit.similarity);
            found.push(subject);
        }
        Ok(found)
    };
    assert_eq!(nearest(&people)?, ["anna", "ben"]);

    println!("without anna:");
    people.remove(&Selection::Subject("anna".into()))?;
    assert_eq!(nearest(&people)?, ["ben", "cleo"]);
    // Every file of the folder is searched for the bytes of the row.
    assert!(gallery::traces(folder.path(), &rows[0])?.is_empty());
    Ok(())
}
