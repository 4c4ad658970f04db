//! The macro behind the dispatch. Each row gives both the arm of the `match` and the line of the public table, so the
//! two cannot disagree.

/// Writes the function that lowers the operations of an enum, exhaustively, and the table of what they become.
///
/// Rows under `lowered` are `Kind(operation) [Operators] since N until M note TEXT => call`. By default a row applies
/// to all operator sets from 17 on and does exactly what Burn does. Rows under `refused` give a reason and a way out.
/// Kinds under `backward` belong to training.
macro_rules! dispatch {
    (
        $(#[$doc:meta])*
        fn $name:ident($l:ident, $enum:ident as $group:literal) -> $table:ident;
        lowered {
            $(
                $kind:ident($op:ident) [$($onnx:literal),*]
                    $(since $since:literal)? $(until $until:literal)? $(note $note:ident)? => $body:expr,
            )*
        }
        $(refused { $($refused:ident => ($reason:expr, $way_out:expr),)* })?
        $(backward { $($backward:ident,)* })?
    ) => {
        const $table: &[OperationKind] = &[
            $(OperationKind {
                group: $group,
                name: stringify!($kind),
                support: Support::Lowered {
                    onnx: &[$($onnx),*],
                    since: latest(&[17, $($since)?]),
                    until: given(&[$($until)?]),
                    note: given(&[$($note)?]),
                },
            },)*
            $($(OperationKind {
                group: $group,
                name: stringify!($refused),
                support: Support::Refused { reason: $reason, way_out: $way_out },
            },)*)?
            $($(OperationKind { group: $group, name: stringify!($backward), support: Support::Backward },)*)?
        ];

        $(#[$doc])*
        fn $name($l: &mut Lowering, operation: &$enum) -> Lowered {
            match operation {
                $($enum::$kind($op) => $body,)*
                $($($enum::$refused { .. } => refuse($reason, $way_out),)*)?
                $($($enum::$backward { .. } => refuse("part of a backward pass", "export `module.valid()`"),)*)?
            }
        }
    };
}

pub(super) use dispatch;

/// The value of an optional part of a row.
pub(super) const fn given<T: Copy>(list: &[T]) -> Option<T> {
    if let [value, ..] = list { Some(*value) } else { None }
}

/// The last of a list.
pub(super) const fn latest(list: &[u32]) -> u32 {
    list[list.len() - 1]
}
