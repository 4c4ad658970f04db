//! Writing to indexed positions, with every kind of update.

use burn::tensor::{FloatDType, IndexingUpdateOp as Update, IntDType};

use super::{B, Case, F, I, case, integers, noise, truths};

const UPDATES: [(Update, u32); 5] =
    [(Update::Assign, 17), (Update::Add, 17), (Update::Mul, 17), (Update::Min, 18), (Update::Max, 18)];

pub fn cases() -> Vec<Case> {
    let mut rows = vec![
        case("adding where indices repeat", [noise("x", [3, 4]), integers([3], &[2, 0, 2]), noise("v", [3, 4])], {
            |(x, i, v): (F<2>, I<1>, F<2>)| x.select_assign(0, i, v, Update::Add)
        }),
        case(
            "scattering where indices repeat",
            [noise("x", [2, 4]), integers([2, 3], &[1, 1, 1, 0, 3, 3]), noise("v", [2, 3])],
            |(x, i, v): (F<2>, I<2>, F<2>)| x.scatter(1, i, v, Update::Add),
        ),
        case(
            "selections of booleans",
            [truths([3, 2], &[0, 1, 0, 0, 1, 1]), integers([2], &[2, 0]), truths([2, 2], &[1, 0, 0, 0])],
            |(x, i, v): (B<2>, I<1>, B<2>)| x.select_assign(0, i, v, Update::Add),
        ),
        case(
            "scattered truth",
            [truths([2, 3], &[0, 1, 0, 0, 1, 1]), integers([2, 1], &[2, 0]), truths([2, 1], &[1, 0])],
            |(x, i, v): (B<2>, I<2>, B<2>)| x.scatter(1, i, v, Update::Add),
        ),
    ];
    for (update, since) in UPDATES {
        let name = |what: &str| format!("{what}, {update:?}");
        rows.extend([
            case(
                name("selections"),
                [noise("x", [3, 4]), integers([2], &[2, 0]), noise("v", [2, 4]), noise("w", [3, 2])],
                {
                    move |(x, i, v, w): (F<2>, I<1>, F<2>, F<2>)| {
                        [x.clone().select_assign(0, i.clone(), v, update), x.select_assign(1, i, w, update)]
                    }
                },
            )
            .since(since),
            case(name("selections of a vector"), [noise("x", [5]), integers([2], &[4, 1]), noise("v", [2])], {
                move |(x, i, v): (F<1>, I<1>, F<1>)| x.select_assign(0, i, v, update)
            })
            .since(since),
            case(
                name("scattered elements"),
                [noise("x", [2, 4]), integers([2, 2], &[1, 3, 0, 2]), noise("v", [2, 2])],
                move |(x, i, v): (F<2>, I<2>, F<2>)| x.scatter(1, i, v, update),
            )
            .since(since),
            case(
                name("scattered slices and points"),
                [noise("x", [3, 4]), integers([2, 1], &[2, 0]), noise("v", [2, 4]), integers([2, 2], &[1, 3, 0, 2])],
                move |(x, rows, v, points): (F<2>, I<2>, F<2>, I<2>)| {
                    let values = v.clone().slice(burn::tensor::s![.., 0..1]).squeeze_dim::<1>(1);
                    (x.clone().scatter_nd(rows.cast(IntDType::I32), v, update), x.scatter_nd(points, values, update))
                },
            )
            .since(since),
            case(
                name("integers"),
                [
                    integers([3, 2], &[1, 2, 3, 4, 5, 6]),
                    integers([2], &[2, 0]),
                    integers([2, 2], &[7, -8, 9, 2]),
                    integers([3, 1], &[1, 0, 1]),
                ],
                move |(x, i, v, columns): (I<2>, I<1>, I<2>, I<2>)| {
                    let points = i.clone().unsqueeze_dim::<2>(1);
                    [
                        x.clone().select_assign(0, i, v.clone(), update),
                        x.clone().scatter(1, columns.clone(), columns * 3, update),
                        x.scatter_nd(points, v, update),
                    ]
                },
            )
            .since(since),
        ]);
    }
    for dtype in [FloatDType::F16, FloatDType::F64] {
        rows.push(
            case(
                format!("scattering in {dtype:?}"),
                [noise("x", [3, 4]), integers([2], &[2, 0]), noise("v", [2, 4])],
                {
                    move |(x, i, v): (F<2>, I<1>, F<2>)| {
                        let (x, v) = (x.cast(dtype), v.cast(dtype));
                        [
                            x.clone().select_assign(0, i.clone(), v.clone(), Update::Add),
                            x.scatter_nd(i.unsqueeze_dim::<2>(1), v, Update::Assign),
                        ]
                    }
                },
            )
            .within(2e-3),
        );
    }
    rows
}

#[test]
fn agree() {
    super::run(cases());
}
