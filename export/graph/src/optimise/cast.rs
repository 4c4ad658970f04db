//! A `Cast` of a `Cast` reads the first one's input, if the type in between holds every value of the input's type.

use super::wiring::{Wiring, each};
use crate::graph::{Graph, ValueId};
use crate::op::Op;
use crate::tensor::DType;

pub(super) fn run(graph: &mut Graph) -> bool {
    each(graph, find, |graph, index, source| graph.nodes[index].inputs = vec![Some(source)])
}

/// The value that the `Cast` at `index` can read instead of another `Cast`'s output.
fn find(wiring: &Wiring<'_>, index: usize) -> Option<ValueId> {
    let node = &wiring.graph.nodes[index];
    let first = wiring.node(node.input(0)?)?;
    let (Op::Cast { to }, Op::Cast { to: between }) = (&node.op, &first.op) else { return None };
    let source = first.input(0)?;
    let from = wiring.graph.value(source).dtype;
    (holds(*between, from) && !wraps_alone(from, *between, *to)).then_some(source)
}

/// Whether only a direct cast wraps an integer that does not fit the last type: a cast through a float may not.
fn wraps_alone(from: DType, between: DType, to: DType) -> bool {
    between.is_float() && !from.is_float() && !to.is_float() && to != DType::Bool && !holds(to, from)
}

/// Whether `wide` holds every value of `narrow`.
fn holds(wide: DType, narrow: DType) -> bool {
    use DType::{Bfloat16, Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32};
    wide == narrow
        || match narrow {
            Bool => true,
            Float16 | Bfloat16 => matches!(wide, Float | Double),
            Float => wide == Double,
            Int8 => matches!(wide, Int16 | Int32 | Int64 | Float | Double),
            Uint8 => matches!(wide, Int16 | Int32 | Int64 | Uint16 | Uint32 | Float | Double),
            Int16 | Uint16 => matches!(wide, Int32 | Int64 | Float | Double),
            Int32 | Uint32 => matches!(wide, Int64 | Double),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::super::{identity, testing::Build};
    use crate::op::{Op, Plain};
    use crate::tensor::DType;

    #[test]
    fn there_and_back_is_nothing() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let wide = build.typed(Op::Cast { to: DType::Double }, &[x], &[2, 3], DType::Double);
        let back = build.node(Op::Cast { to: DType::Float }, &[wide], &[2, 3]);
        let y = build.node(Plain::Relu, &[back], &[2, 3]);
        let after = build.output(y).check(|graph| super::run(graph) && identity::run(graph));
        assert_eq!(after.nodes.len(), 1);
    }

    #[test]
    fn integers_that_do_not_fit_keep_their_way() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let narrow = build.typed(Op::Cast { to: DType::Int8 }, &[x], &[2, 3], DType::Int8);
        let float = build.node(Op::Cast { to: DType::Float }, &[narrow], &[2, 3]);
        let unsigned = build.typed(Op::Cast { to: DType::Uint8 }, &[float], &[2, 3], DType::Uint8);
        let y = build.node(Op::Cast { to: DType::Float }, &[unsigned], &[2, 3]);
        build.output(y).unchanged(super::run);
    }

    #[test]
    fn what_was_cut_off_stays_cut_off() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let whole = build.typed(Op::Cast { to: DType::Int32 }, &[x], &[2, 3], DType::Int32);
        let y = build.node(Op::Cast { to: DType::Float }, &[whole], &[2, 3]);
        build.output(y).unchanged(super::run);
    }
}
