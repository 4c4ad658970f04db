//! The store's search against the plain scan of [`Memory`]: the same ids and the same bits.

use gallery::{
    Ask, Engine, Filter, Layout, Memory, NewTemplate, Rows, Selection, Store, TemplateId, nearer_rows, nearest_rows,
};

use crate::support::{Dice, model, scratch, unit_rows};

/// (rows, probes, dim, k, rows of a segment, removed rows): every way through tiles, groups and tails.
const CASES: [(usize, usize, usize, usize, usize, usize); 14] = [
    (1, 1, 1, 1, 9, 0),
    (5, 3, 2, 9, 2, 1),
    (2000, 1, 64, 10, 5000, 0),
    (2000, 3, 64, 10, 700, 7),
    (2500, 4, 100, 50, 5000, 0),
    (2500, 64, 33, 10, 600, 40),
    (1024, 130, 16, 5, 5000, 0),
    (1025, 257, 16, 5, 5000, 1),
    (6000, 600, 8, 3, 5000, 0),
    (6000, 300, 8, 100, 1000, 500),
    (3000, 40, 128, 2999, 5000, 0),
    (700, 20, 512, 10, 200, 3),
    (300, 9, 3584, 10, 5000, 0),
    (4000, 128, 1, 10, 5000, 0),
];

#[test]
fn ids_and_similarities_are_those_of_the_plain_scan() {
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| CASES.iter().for_each(|case| compare(*case, threads)));
    }
}

fn compare((rows, probes, dim, k, segment, removed): (usize, usize, usize, usize, usize, usize), threads: usize) {
    let case = format!("{rows} rows x {dim}, {probes} probes, k {k}, segments of {segment}, {threads} threads");
    let mut dice = Dice((rows * 31 + probes * 7 + dim) as u64);
    let folder = scratch();
    let layout = Layout { segment_bytes: segment * dim * 4, ..Layout::default() };
    let store = Store::create_with(&folder.path().join("g"), &model(dim), layout).unwrap();
    let memory = Memory::new(model(dim));
    let values = unit_rows(&mut dice, rows, dim);
    let templates: Vec<NewTemplate> =
        (0..rows).map(|row| NewTemplate { camera: Some(row as u32 % 10), ..NewTemplate::default() }).collect();
    let values = Rows::new(&values, rows, dim).unwrap();
    let ids = store.enrol(&templates, values).unwrap();
    assert_eq!(memory.enrol(&templates, values).unwrap(), ids);
    let removed: Vec<_> = (0..removed).map(|_| ids[dice.below(rows)]).collect();
    for engine in [&store as &dyn Engine, &memory] {
        engine.remove(&Selection::Templates(removed.clone())).unwrap();
    }
    // Some probes are rows themselves: equal to several of them.
    let mut wanted = unit_rows(&mut dice, probes, dim);
    wanted[..dim].copy_from_slice(values.row(rows / 2));
    let wanted = Rows::new(&wanted, probes, dim).unwrap();
    let plain = memory.snapshot().unwrap();
    let one_camera = Filter { cameras: Some(vec![3]), ..Filter::default() };
    let most = Filter { cameras: Some((1..10).collect()), ..Filter::default() };
    for reduced in [false, true] {
        if reduced {
            assert_eq!(store.reduce().unwrap(), rows as u64);
        }
        let found = store.snapshot().unwrap();
        for filter in [Filter::default(), one_camera.clone(), most.clone()] {
            for min_similarity in [None, Some(0.2)] {
                let ask = Ask { k, min_similarity, filter: filter.clone() };
                let (found, plain) = (found.search(wanted, &ask).unwrap(), plain.search(wanted, &ask).unwrap());
                assert_eq!(found, plain, "{case}, reduced {reduced}, {ask:?}");
            }
        }
    }
    // Every seventh hit of every other probe is a mark, and so is the last one.
    let mut marks = plain.search(wanted, &Ask::nearest(rows)).unwrap();
    for (probe, marks) in marks.iter_mut().enumerate() {
        let mut at = 0;
        marks.retain(|_| {
            at += 1;
            probe.is_multiple_of(2) && (at % 7 == 1 || at == rows)
        });
    }
    let counted = |probe: usize, id: TemplateId| !(id.0 as usize + probe).is_multiple_of(3);
    let counts = store.snapshot().unwrap().nearer(wanted, &marks, &counted).unwrap();
    assert_eq!(counts, plain.nearer(wanted, &marks, &counted).unwrap(), "{case}");
    assert!(counts.iter().zip(&marks).all(|(counts, marks)| counts.len() == marks.len()));
}

/// Rows in memory need no gallery; rows of zeros are what older galleries stored for pictures without features.
#[test]
fn rows_in_memory_are_searched_alike() {
    for (rows, probes, dim, k) in [(0, 2, 4, 3), (1, 0, 4, 3), (5, 2, 1, 9), (3000, 1, 33, 10), (2500, 150, 20, 7)] {
        let mut dice = Dice(rows as u64);
        let mut values = unit_rows(&mut dice, rows, dim);
        if rows > 1 {
            values[dim..2 * dim].fill(0.0);
            values[3 * dim..4 * dim].iter_mut().for_each(|value| *value *= 1e-35);
        }
        let wanted = unit_rows(&mut dice, probes, dim);
        let (values, wanted) = (Rows::new(&values, rows, dim).unwrap(), Rows::new(&wanted, probes, dim).unwrap());
        for min in [None, Some(0.1)] {
            let found = nearest_rows(values, wanted, k, min);
            assert_eq!(found.len(), probes);
            for (probe, found) in found.iter().enumerate() {
                let similarity = |row: usize| metrics::dot(wanted.row(probe), values.row(row));
                let mut plain: Vec<(usize, f32)> = (0..rows).map(|row| (row, similarity(row))).collect();
                plain.retain(|(_, similarity)| min.is_none_or(|min| *similarity >= min));
                plain.sort_by(|a, b| (b.1 + 0.0).total_cmp(&(a.1 + 0.0)).then(a.0.cmp(&b.0)));
                plain.truncate(k);
                let found: Vec<(usize, f32)> = found.iter().map(|near| (near.row, near.similarity)).collect();
                assert_eq!(found, plain, "{rows}x{dim}, {probes} probes, k {k}, min {min:?}");
            }
        }
        // Between marks, of which the first is the third nearest, lie all rows that count and are no marks.
        let all = nearest_rows(values, wanted, rows, None);
        let marks: Vec<Vec<_>> = all.iter().map(|all| all.iter().skip(2).step_by(5).copied().collect()).collect();
        let counted =
            |probe: usize, row: usize| !row.is_multiple_of(4) && marks[probe].iter().all(|mark| mark.row != row);
        let counts = nearer_rows(values, wanted, &marks, counted);
        for (probe, counts) in counts.iter().enumerate() {
            let mut plain = vec![0; marks[probe].len()];
            for (at, near) in all[probe].iter().enumerate().filter(|(_, near)| counted(probe, near.row)) {
                let mark = at.saturating_sub(2).div_ceil(5);
                plain.get_mut(mark).into_iter().for_each(|count| *count += 1);
                assert!(near.row < rows);
            }
            assert_eq!(*counts, plain, "{rows}x{dim}, probe {probe}");
        }
    }
}

#[test]
fn a_gallery_of_equal_rows_is_searched_exactly() {
    let folder = scratch();
    let store = Store::create(&folder.path().join("g"), &model(8)).unwrap();
    let values = vec![1.0 / 8.0_f32.sqrt(); 8 * 3000];
    let ids = store.enrol(&vec![NewTemplate::default(); 3000], Rows::new(&values, 3000, 8).unwrap()).unwrap();
    let hits = store.snapshot().unwrap().search(Rows::new(&values[..80], 10, 8).unwrap(), &Ask::nearest(7)).unwrap();
    for hits in hits {
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), ids[..7]);
    }
}
