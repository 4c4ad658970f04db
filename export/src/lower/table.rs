//! The macro behind the dispatch: one row gives both the arm of the `match` and the line of the public table, so that
//! neither can be without the other.

/// Writes a function that lowers the operations of an enum, exhaustively, and the table of what they become.
///
/// Rows under `lowered` say `Kind(operation) [Operators] since N until M note TEXT => call`; without, they are for 17
/// and all later sets, and do what Burn does. Rows under `refused` give a reason and a way out. What is listed under
/// `backward` belongs to training.
macro_rules! dispatch {
    (
        $(#[$doc:meta])*
        fn $name:ident($l:ident, $enum:ident as $group:literal) -> $table:ident;
        lowered { $($kind:ident($op:ident) [$($onnx:literal),*] $(since $since:literal)? $(until $until:literal)? $(note $note:ident)? => $body:expr,)* }
        $(refused { $($refused:ident => ($reason:expr, $way_out:expr),)* })?
        $(backward { $($backward:ident,)* })?
    ) => {
        const $table: &[OperationKind] = &[
            $(OperationKind {
                group: $group,
                name: stringify!($kind),
                fate: Fate::Lowered {
                    onnx: &[$($onnx),*],
                    since: latest(&[17, $($since)?]),
                    until: given(&[$($until)?]),
                    note: given(&[$($note)?]),
                },
            },)*
            $($(OperationKind {
                group: $group,
                name: stringify!($refused),
                fate: Fate::Refused { reason: $reason, way_out: $way_out },
            },)*)?
            $($(OperationKind { group: $group, name: stringify!($backward), fate: Fate::Backward },)*)?
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

/// What a row may say or leave out.
pub(super) const fn given<T: Copy>(list: &[T]) -> Option<T> {
    if let [value, ..] = list { Some(*value) } else { None }
}

/// The last of a list.
pub(super) const fn latest(list: &[u32]) -> u32 {
    list[list.len() - 1]
}
